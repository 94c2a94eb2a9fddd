package edgekit

import android.util.Log
import java.io.File
import java.io.IOException
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

/** What a check of the golden vectors found: the way that passed, and those before it that did not. */
internal class Found(val way: Way, val rejected: List<Rejection>)

/**
 * A file that remembers what was found out about a bundle, so that it is found out once. A folder that can't be written costs a check at each
 * opening, and a line in the log.
 *
 * @param identity all that the check holds for; what was found for another is not recalled
 */
internal class Memory(private val file: File, private val identity: String) {
    /** What was found; null when nothing was, or for something else. */
    fun recall(): Found? {
        if (!file.exists()) return null
        try {
            val entry = JSONObject(file.readText())
            if (entry.getString("identity") != identity) return null
            val rejected = entry.getJSONArray("rejected")
            return Found(
                Way.valueOf(entry.getString("way")),
                List(rejected.length()) { index ->
                    rejected.getJSONObject(index).let { Rejection(Way.valueOf(it.getString("way")), it.getString("reason")) }
                },
            )
        } catch (error: IOException) {
            Log.w("edgekit", "$file can't be read: ${error.message}")
        } catch (error: JSONException) {
            Log.w("edgekit", "$file is damaged: ${error.message}")
        } catch (error: IllegalArgumentException) { // a way that this version doesn't know
            Log.w("edgekit", "$file is damaged: ${error.message}")
        }
        return null
    }

    fun remember(found: Found) {
        val rejected = found.rejected.map { JSONObject().put("way", it.way.name).put("reason", it.reason) }
        val entry = JSONObject().put("identity", identity).put("way", found.way.name).put("rejected", JSONArray(rejected))
        val whole = File(file.path + ".part")
        try {
            file.parentFile?.mkdirs()
            whole.writeText(entry.toString())
            if (!whole.renameTo(file)) throw IOException("it can't be renamed")
        } catch (error: IOException) {
            Log.w("edgekit", "$file can't be written, so the golden vectors are checked each time: ${error.message}")
        }
    }

    fun forget() {
        file.delete()
    }
}
