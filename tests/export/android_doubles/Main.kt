import android.content.Context
import edgekit.DisagreementException
import edgekit.EdgekitPipeline
import edgekit.Rejection
import java.io.File
import org.json.JSONArray
import org.json.JSONObject

fun describe(rejected: List<Rejection>) = JSONArray(rejected.map { JSONObject().put("way", it.way.name).put("reason", it.reason) })

/** Open the bundle below the folder of assets, answer for an empty film of its first view, test, and say all that on one line. */
fun main(words: Array<String>) {
    val said = JSONObject()
    try {
        EdgekitPipeline(Context(File(words[0]), File(words[1]))).use { pipeline ->
            val answer = pipeline.infer(mapOf(pipeline.views[0] to ByteArray(pipeline.side * pipeline.side)))
            said.put("views", JSONArray(pipeline.views)).put("question", pipeline.question)
            said.put("found", pipeline.found).put("told", pipeline.told).put("use", pipeline.intendedUse)
            said.put("outputs", JSONArray(answer.outputs.keys.toList()))
            said.put("decision", answer.decision).put("probabilities", JSONArray(answer.outputs.getValue("probabilities").map { it.toDouble() }))
            said.put("way", pipeline.way.name).put("rejected", describe(pipeline.rejected))
            if ("unknown" in words) pipeline.infer(mapOf("oblique" to ByteArray(0)))
            if ("test" in words) said.put("failed", JSONArray(pipeline.selfTest().filterNot { it.passed }.map { it.output }))
        }
    } catch (error: Exception) {
        said.put("error", error.javaClass.simpleName).put("message", error.message)
        if (error is DisagreementException) said.put("rejected", describe(error.rejected))
    }
    println("SAY $said")
}
