package ai.onnxruntime;

import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.StringJoiner;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

public class OrtSession implements AutoCloseable {
    private final String provider;

    OrtSession(String provider) {
        this.provider = provider;
    }

    public Result run(Map<String, OnnxTensor> inputs) throws OrtException {
        Base64.Encoder encoder = Base64.getEncoder();
        StringJoiner present = new StringJoiner(",");
        StringJoiner films = new StringJoiner(" ");
        for (String name : inputs.keySet()) {
            OnnxTensor tensor = inputs.get(name);
            if (tensor.bytes != null) {
                films.add(name + "=" + encoder.encodeToString(tensor.bytes));
            } else {
                for (double number : tensor.numbers) present.add(String.valueOf(number));
            }
        }
        String answer = OrtEnvironment.ask("RUN " + provider + " " + present + " " + films);
        try {
            return new Result(new JSONObject(answer));
        } catch (JSONException error) {
            throw new OrtException(error.getMessage());
        }
    }

    @Override
    public void close() throws OrtException {
        OrtEnvironment.ask("CLOSE " + provider);
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
        private final Map<String, OnnxTensor> tensors = new HashMap<>();

        Result(JSONObject answer) throws JSONException {
            JSONArray names = answer.names();
            for (int number = 0; number < names.length(); number++) {
                JSONObject tensor = answer.getJSONObject(names.getString(number));
                JSONArray values = tensor.getJSONArray("values");
                double[] numbers = new double[values.length()];
                for (int index = 0; index < numbers.length; index++) {
                    numbers[index] = values.getDouble(index);
                }
                OnnxJavaType type = tensor.getString("dtype").equals("int32") ? OnnxJavaType.INT32 : OnnxJavaType.FLOAT;
                tensors.put(names.getString(number), new OnnxTensor(null, numbers, type));
            }
        }

        public Optional<OnnxValue> get(String name) {
            return Optional.ofNullable(tensors.get(name));
        }

        @Override
        public void close() {}
    }
}
