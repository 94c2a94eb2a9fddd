package ai.onnxruntime;

import doubles.Graph;
import doubles.Refused;

/** Stands in for ONNX Runtime. */
public class OrtEnvironment {
    public static OrtEnvironment getEnvironment() {
        return new OrtEnvironment();
    }

    public String getVersion() {
        return System.getProperty("runtime");
    }

    public OrtSession createSession(byte[] model, OrtSession.SessionOptions options) throws OrtException {
        try {
            return new OrtSession(new Graph(options.provider, options.threads, model));
        } catch (Refused error) {
            throw new OrtException(error.getMessage());
        }
    }
}
