package android.content;

import android.content.res.AssetManager;
import java.io.File;

/** An app whose assets and cache are folders. */
public class Context {
    private final File assets;
    private final File cache;

    public Context(File assets, File cache) {
        this.assets = assets;
        this.cache = cache;
    }

    public AssetManager getAssets() {
        return new AssetManager(assets);
    }

    public File getCacheDir() {
        return cache;
    }
}
