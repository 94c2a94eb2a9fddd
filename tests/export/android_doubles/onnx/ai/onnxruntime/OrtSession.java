package ai.onnxruntime;

import doubles.Graph;
import doubles.Refused;
import java.nio.Buffer;
import java.nio.IntBuffer;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

public class OrtSession implements AutoCloseable {
    private final Graph graph;

    OrtSession(Graph graph) {
        this.graph = graph;
    }

    public Result run(Map<String, OnnxTensor> inputs) throws OrtException {
        Map<String, Buffer> values = new LinkedHashMap<>();
        inputs.forEach((name, tensor) -> values.put(name, tensor.values));
        try {
            return new Result(graph.run(values));
        } catch (Refused error) {
            throw new OrtException(error.getMessage());
        }
    }

    @Override
    public void close() throws OrtException {
        graph.close();
    }

    public static class SessionOptions implements AutoCloseable {
        String provider = "CPU";
        int threads = 0;

        public void setIntraOpNumThreads(int threads) {
            this.threads = threads;
        }

        public void addNnapi() {
            provider = "NNAPI";
        }

        public void addXnnpack(Map<String, String> options) {
            provider = "XNNPACK";
        }

        public void addConfigEntry(String key, String value) {}

        @Override
        public void close() {}
    }

    public static class Result implements AutoCloseable {
        private final Map<String, Buffer> values;

        Result(Map<String, Buffer> values) {
            this.values = values;
        }

        public Optional<OnnxValue> get(String name) {
            Buffer found = values.get(name);
            OnnxJavaType type = found instanceof IntBuffer ? OnnxJavaType.INT32 : OnnxJavaType.FLOAT;
            return Optional.ofNullable(found).map(each -> new OnnxTensor(each, type));
        }

        @Override
        public void close() {}
    }
}
