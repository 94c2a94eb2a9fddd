package doubles;

import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.StringJoiner;
import java.util.zip.CRC32;
import org.json.JSONException;
import org.json.JSONObject;

/** A graph whose answers come out of the pipe. Both runtimes stand in front of it, each with its own names. */
public class Graph {
    private final String way;

    public Graph(String way, int threads, byte[] model) throws Refused {
        this.way = way;
        CRC32 sum = new CRC32(); // the model itself is too much for the pipe
        sum.update(model);
        Pipe.ask("OPEN " + way + " " + threads + " " + model.length + " " + sum.getValue());
    }

    /** Answer for bytes and floats by name, with floats and integers by name. */
    public Map<String, Buffer> run(Map<String, ? extends Buffer> inputs) throws Refused {
        StringJoiner tensors = new StringJoiner(" ");
        for (String name : inputs.keySet()) {
            tensors.add(name + "=" + Base64.getEncoder().encodeToString(toBytes(inputs.get(name))));
        }
        try {
            JSONObject answer = new JSONObject(Pipe.ask("RUN " + way + " " + tensors));
            Map<String, Buffer> outputs = new HashMap<>();
            for (int number = 0; number < answer.length(); number++) {
                String name = answer.names().getString(number);
                JSONObject tensor = answer.getJSONObject(name);
                ByteBuffer values = ByteBuffer.wrap(Base64.getDecoder().decode(tensor.getString("values"))).order(ByteOrder.LITTLE_ENDIAN);
                outputs.put(name, tensor.getString("dtype").equals("int32") ? values.asIntBuffer() : values.asFloatBuffer());
            }
            return outputs;
        } catch (JSONException error) {
            throw new IllegalStateException(error);
        }
    }

    public void close() {
        try {
            Pipe.ask("CLOSE " + way);
        } catch (Refused error) {
            throw new IllegalStateException(error);
        }
    }

    private static byte[] toBytes(Buffer values) {
        if (values instanceof ByteBuffer) {
            byte[] bytes = new byte[values.remaining()];
            ((ByteBuffer) values).duplicate().get(bytes);
            return bytes;
        }
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.remaining()).order(ByteOrder.LITTLE_ENDIAN);
        if (values instanceof FloatBuffer) {
            bytes.asFloatBuffer().put(((FloatBuffer) values).duplicate());
        } else {
            bytes.asIntBuffer().put(((IntBuffer) values).duplicate());
        }
        return bytes.array();
    }
}
