package ai.onnxruntime;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Base64;

/** Stands in for ONNX Runtime: whoever started this program answers on its standard input what is asked on its standard output. */
public class OrtEnvironment {
    private static final BufferedReader ANSWERS = new BufferedReader(new InputStreamReader(System.in));

    public static OrtEnvironment getEnvironment() {
        return new OrtEnvironment();
    }

    public String getVersion() {
        return System.getProperty("runtime");
    }

    public OrtSession createSession(byte[] model, OrtSession.SessionOptions options) throws OrtException {
        ask("OPEN " + options.provider + " " + options.threads + " " + Base64.getEncoder().encodeToString(model));
        return new OrtSession(options.provider);
    }

    static String ask(String question) throws OrtException {
        System.out.println(question);
        try {
            String answer = ANSWERS.readLine();
            if (answer.startsWith("error ")) {
                throw new OrtException(answer.substring(6));
            }
            return answer;
        } catch (IOException error) {
            throw new OrtException(error.getMessage());
        }
    }
}
