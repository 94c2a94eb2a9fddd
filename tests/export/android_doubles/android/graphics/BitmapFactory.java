package android.graphics;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import javax.imageio.ImageIO;

public class BitmapFactory {
    public static Bitmap decodeByteArray(byte[] data, int offset, int length) {
        try {
            return new Bitmap(ImageIO.read(new ByteArrayInputStream(data, offset, length)));
        } catch (IOException error) {
            return null;
        }
    }
}
