package org.tensorflow.lite;

import doubles.Graph;
import doubles.Refused;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.LinkedHashMap;
import java.util.Map;

/** Stands in for LiteRT on the processor, and is as strict about buffers. */
public final class Interpreter implements AutoCloseable {
    private final Graph graph;

    public static class Options {
        private int threads = -1;
        private boolean useXNNPACK = true;

        public Options setNumThreads(int threads) {
            this.threads = threads;
            return this;
        }

        public Options setUseXNNPACK(boolean useXNNPACK) {
            this.useXNNPACK = useXNNPACK;
            return this;
        }
    }

    public Interpreter(ByteBuffer model, Options options) {
        if (!model.isDirect() || model.order() != ByteOrder.nativeOrder()) {
            throw new IllegalArgumentException("Model ByteBuffer should be direct and in native order");
        }
        byte[] bytes = new byte[model.capacity()]; // all of it, wherever its position is
        model.duplicate().rewind().get(bytes);
        try {
            graph = new Graph(options.useXNNPACK ? "XNNPACK" : "CPU", options.threads, bytes);
        } catch (Refused error) {
            throw new IllegalArgumentException(error.getMessage());
        }
    }

    /** Without a name, for a model of one signature. */
    public void runSignature(Map<String, Object> inputs, Map<String, Object> outputs) {
        Map<String, Buffer> values = new LinkedHashMap<>();
        inputs.forEach((name, value) -> values.put(name, (Buffer) value));
        try {
            Map<String, Buffer> answer = graph.run(values);
            outputs.forEach((name, place) -> copy(name, answer.get(name), (Buffer) place));
        } catch (Refused error) {
            throw new IllegalArgumentException(error.getMessage());
        }
    }

    private static void copy(String name, Buffer values, Buffer place) {
        if (values == null) {
            throw new IllegalArgumentException("Input error: '" + name + "' is not a valid name for any output");
        }
        if (values.remaining() != place.capacity() || values instanceof IntBuffer != place instanceof IntBuffer) {
            throw new IllegalArgumentException("Cannot copy from a TensorFlowLite tensor (" + name + ") to a Java Buffer of another size or type");
        }
        if (place instanceof IntBuffer) {
            ((IntBuffer) place).put((IntBuffer) values);
        } else {
            ((FloatBuffer) place).put((FloatBuffer) values);
        }
    }

    @Override
    public void close() {
        graph.close();
    }
}
