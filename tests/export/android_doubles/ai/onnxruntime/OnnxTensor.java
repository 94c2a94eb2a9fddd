package ai.onnxruntime;

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

    final byte[] bytes;
    final double[] numbers;
    private final Info info;

    OnnxTensor(byte[] bytes, double[] numbers, OnnxJavaType type) {
        this.bytes = bytes;
        this.numbers = numbers;
        this.info = new Info(type);
    }

    public static OnnxTensor createTensor(OrtEnvironment environment, FloatBuffer data, long[] shape) {
        double[] numbers = new double[data.remaining()];
        for (int index = 0; index < numbers.length; index++) {
            numbers[index] = data.get();
        }
        return new OnnxTensor(null, numbers, OnnxJavaType.FLOAT);
    }

    public static OnnxTensor createTensor(OrtEnvironment environment, ByteBuffer data, long[] shape, OnnxJavaType type) {
        byte[] bytes = new byte[data.remaining()];
        data.get(bytes);
        return new OnnxTensor(bytes, null, type);
    }

    public Info getInfo() {
        return info;
    }

    public FloatBuffer getFloatBuffer() {
        float[] floats = new float[numbers.length];
        for (int index = 0; index < floats.length; index++) {
            floats[index] = (float) numbers[index];
        }
        return FloatBuffer.wrap(floats);
    }

    public IntBuffer getIntBuffer() {
        int[] integers = new int[numbers.length];
        for (int index = 0; index < integers.length; index++) {
            integers[index] = (int) numbers[index];
        }
        return IntBuffer.wrap(integers);
    }

    @Override
    public void close() {}
}
