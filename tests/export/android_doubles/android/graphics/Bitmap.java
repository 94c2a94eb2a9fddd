package android.graphics;

import java.awt.image.BufferedImage;

/** A gray picture, whose pixels are given as Android gives them: opaque colours. */
public class Bitmap {
    private final BufferedImage image;

    Bitmap(BufferedImage image) {
        this.image = image;
    }

    public int getWidth() {
        return image.getWidth();
    }

    public int getHeight() {
        return image.getHeight();
    }

    public void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height) {
        for (int row = 0; row < height; row++) {
            for (int column = 0; column < width; column++) {
                int gray = image.getRaster().getSample(x + column, y + row, 0); // getRGB would go through a colour profile
                pixels[offset + row * stride + column] = 0xff000000 | gray << 16 | gray << 8 | gray;
            }
        }
    }
}
