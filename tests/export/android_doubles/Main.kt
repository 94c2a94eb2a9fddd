import android.content.Context
import android.os.Build
import doubles.Pipe
import edgekit.DisagreementException
import edgekit.EdgekitPipeline
import edgekit.Film
import edgekit.Rejection
import edgekit.Way
import edgekit.makeCanvas
import edgekit.placeFilm
import java.io.File
import java.util.Base64
import org.json.JSONArray
import org.json.JSONObject

fun describe(rejected: List<Rejection>) = JSONArray(rejected.map { JSONObject().put("way", it.way.name).put("reason", it.reason) })

fun JSONObject.texts(name: String) = getJSONArray(name).let { words -> List(words.length()) { words.getString(it) } }

fun open(asked: JSONObject): EdgekitPipeline {
    val context = Context(File(asked.getString("assets")), File(asked.getString("cache")))
    val ways = asked.texts("ways").map { Way.valueOf(it) }
    return if (ways.isEmpty()) EdgekitPipeline(context) else EdgekitPipeline(context, ways = ways)
}

/** Open the bundle below the folder of assets, answer for an empty film of its first view, and test. */
fun start(asked: JSONObject, said: JSONObject) {
    System.setProperty("runtime", asked.getString("runtime"))
    System.setProperty("gpu", asked.getString("gpu"))
    Build.FINGERPRINT = asked.getString("fingerprint")
    val words = asked.texts("words")
    open(asked).use { pipeline ->
        val answer = pipeline.infer(mapOf(pipeline.views[0] to ByteArray(pipeline.side * pipeline.side)))
        said.put("views", JSONArray(pipeline.views)).put("question", pipeline.question)
        said.put("found", pipeline.found).put("told", pipeline.told).put("use", pipeline.intendedUse)
        said.put("outputs", JSONArray(answer.outputs.keys.toList()))
        said.put("decision", answer.decision).put("probabilities", JSONArray(answer.outputs.getValue("probabilities").map { it.toDouble() }))
        said.put("way", pipeline.way.name).put("rejected", describe(pipeline.rejected))
        if ("unknown" in words) pipeline.infer(mapOf("oblique" to ByteArray(0)))
        if ("test" in words) said.put("failed", JSONArray(pipeline.selfTest().filterNot { it.passed }.map { it.output }))
    }
}

/** Make the canvas of a film. */
fun place(asked: JSONObject, said: JSONObject) {
    val film = Film(Base64.getDecoder().decode(asked.getString("film")), asked.getInt("width"), asked.getInt("height"))
    val side = asked.getInt("side")
    val place = placeFilm(film.width, film.height, side)
    said.put("canvas", Base64.getEncoder().encodeToString(makeCanvas(film, side)))
    said.put("left", place.left).put("top", place.top).put("covered", JSONArray(listOf(place.width, place.height)))
}

/** Do what is asked, one thing a line, and say on one line what came of it. */
fun main() {
    while (true) {
        val asked = JSONObject(Pipe.read() ?: return)
        val said = JSONObject()
        try {
            if (asked.has("film")) place(asked, said) else start(asked, said)
        } catch (error: Throwable) {
            said.put("error", error.javaClass.simpleName).put("message", error.message)
            if (error is DisagreementException) said.put("rejected", describe(error.rejected))
        }
        println("SAY $said")
    }
}
