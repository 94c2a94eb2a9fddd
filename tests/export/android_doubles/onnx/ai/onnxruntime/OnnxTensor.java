package ai.onnxruntime;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;

public class OnnxTensor implements OnnxValue {
    public static class Info {
        public final OnnxJavaType type;

        Info(OnnxJavaType type) {
            this.type = type;
        }
    }

    final Buffer values;
    private final Info info;

    OnnxTensor(Buffer values, OnnxJavaType type) {
        this.values = values;
        this.info = new Info(type);
    }

    public static OnnxTensor createTensor(OrtEnvironment environment, FloatBuffer data, long[] shape) throws OrtException {
        return new OnnxTensor(check(data, shape), OnnxJavaType.FLOAT);
    }

    public static OnnxTensor createTensor(OrtEnvironment environment, ByteBuffer data, long[] shape, OnnxJavaType type) throws OrtException {
        return new OnnxTensor(check(data, shape), type);
    }

    private static Buffer check(Buffer data, long[] shape) throws OrtException {
        long size = 1;
        for (long side : shape) {
            size *= side;
        }
        if (data.remaining() != size) {
            throw new OrtException("Shape of " + size + " values, buffer of " + data.remaining());
        }
        return data;
    }

    public Info getInfo() {
        return info;
    }

    public FloatBuffer getFloatBuffer() {
        return (FloatBuffer) values;
    }

    public IntBuffer getIntBuffer() {
        return (IntBuffer) values;
    }

    @Override
    public void close() {}
}
