package doubles;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;

/** Whoever started this program tells it on its standard input what to do, and answers there what is asked on its standard output. */
public class Pipe {
    private static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));

    public static String read() {
        try {
            return INPUT.readLine();
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    public static String ask(String question) throws Refused {
        System.out.println(question);
        String answer = read();
        if (answer.startsWith("error ")) {
            throw new Refused(answer.substring(6));
        }
        if (answer.equals("no memory")) {
            throw new OutOfMemoryError("Failed to allocate a 12345678 byte allocation");
        }
        return answer;
    }
}
