package edgekit

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.content.Context
import android.graphics.BitmapFactory
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.security.MessageDigest
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject

/** A file of the bundle is not the one that its manifest describes. */
class DamagedBundleException(message: String) : Exception(message)

/**
 * What the graph says of one patient.
 *
 * @property decision one of [EdgekitPipeline.DECISIONS]
 * @property brand the answer; only when [decision] is "identified"
 * @property predictionSet the brands that can't be excluded at the manifest's coverage
 * @property outputs the graph's tensors, row by row; integers as floats
 */
class Answer(val decision: String, val brand: String?, val predictionSet: List<String>, val outputs: Map<String, FloatArray>)

/** How far one output is from the golden vectors, and how far it may be. */
class Check(val output: String, val error: Double, val tolerance: Double) {
    val passed get() = error <= tolerance
}

/**
 * Runs an edgekit bundle: two canvases in, the whole answer out. The graph does the work; this class checks the hashes of what it loads
 * and names the tensors.
 *
 * @param folder the bundle's folder in the app's assets
 * @param threads threads within an operator
 */
class EdgekitPipeline(context: Context, private val folder: String = "bundle", threads: Int = 2) : AutoCloseable {
    private val assets = context.assets
    private val manifest = JSONObject(read("manifest.json").decodeToString())
    private val environment = OrtEnvironment.getEnvironment()
    private val session: OrtSession = OrtSession.SessionOptions().use { options ->
        options.setIntraOpNumThreads(threads)
        environment.createSession(readVerified(manifest.getString("model")), options)
    }

    /** Brands in the order of `probabilities`. */
    val brands: List<String> = manifest.getJSONArray("brands").let { names -> List(names.length()) { names.getString(it) } }

    /** Side S of the canvas in pixels. */
    val side: Int = manifest.getJSONObject("canvas").getInt("side")

    /**
     * Answer for one patient. A canvas is S * S gray levels, row by row, made from a film as edgekit's docs/canvas.md says; null when the
     * film is missing.
     */
    fun infer(ap: ByteArray?, lateral: ByteArray?): Answer {
        val present = floatArrayOf(if (ap == null) 0f else 1f, if (lateral == null) 0f else 1f)
        val inputs = mapOf(
            "ap" to makeFilm(ap),
            "lateral" to makeFilm(lateral),
            "present" to OnnxTensor.createTensor(environment, FloatBuffer.wrap(present), longArrayOf(2)),
        )
        try {
            session.run(inputs).use { result ->
                val outputs = OUTPUTS.associateWith { name -> readValues(result.get(name).get() as OnnxTensor) }
                val decision = DECISIONS[outputs.getValue("decision")[0].toInt()]
                val probabilities = outputs.getValue("probabilities")
                val inSet = outputs.getValue("prediction_set")
                return Answer(
                    decision = decision,
                    brand = if (decision == "identified") brands[brands.indices.maxByOrNull { probabilities[it] }!!] else null,
                    predictionSet = brands.filterIndexed { index, _ -> inSet[index] == 1f },
                    outputs = outputs,
                )
            }
        } finally {
            inputs.values.forEach { it.close() }
        }
    }

    /** Run the bundle's golden vectors; the device is fit for the bundle when every check passed. */
    fun selfTest(): List<Check> {
        val golden = JSONObject(readVerified("golden/golden.json").decodeToString())
        val boxThreshold = manifest.getJSONObject("thresholds").getDouble("box")
        val errors = OUTPUTS.associateWithTo(mutableMapOf()) { 0.0 }
        val cases = golden.getJSONArray("cases")
        for (number in 0 until cases.length()) {
            val case = cases.getJSONObject(number)
            val films = case.getJSONObject("films")
            val found = infer(readCanvas(films, "ap"), readCanvas(films, "lateral")).outputs
            val expected = case.getJSONObject("outputs")
            val scores = flatten(expected.getJSONArray("box_scores"))
            for (name in OUTPUTS) {
                flatten(expected.getJSONArray(name)).forEachIndexed { index, value ->
                    // Without a construct the best cell is arbitrary, and so is its box.
                    val counts = name != "boxes" || scores[index / 4] >= boxThreshold
                    val error = abs(found.getValue(name)[index] - value).let { if (it.isNaN()) Double.POSITIVE_INFINITY else it }
                    if (counts && error > errors.getValue(name)) errors[name] = error
                }
            }
        }
        val tolerance = golden.getJSONObject("tolerance")
        return OUTPUTS.map { Check(it, errors.getValue(it), tolerance.getDouble(it)) }
    }

    override fun close() = session.close()

    private fun makeFilm(canvas: ByteArray?): OnnxTensor {
        val pixels = canvas ?: ByteArray(side * side)
        require(pixels.size == side * side) { "a canvas has $side x $side bytes, this one has ${pixels.size}" }
        val shape = longArrayOf(1, 1, side.toLong(), side.toLong())
        return OnnxTensor.createTensor(environment, ByteBuffer.wrap(pixels), shape, OnnxJavaType.UINT8)
    }

    private fun readValues(tensor: OnnxTensor): FloatArray {
        if (tensor.getInfo().type == OnnxJavaType.INT32) {
            val integers = tensor.getIntBuffer()
            return FloatArray(integers.remaining()) { integers.get(it).toFloat() }
        }
        val floats = tensor.getFloatBuffer()
        return FloatArray(floats.remaining()) { floats.get(it) }
    }

    private fun readCanvas(films: JSONObject, view: String): ByteArray? {
        if (!films.has(view)) return null
        val png = readVerified("golden/" + films.getString(view))
        val bitmap = BitmapFactory.decodeByteArray(png, 0, png.size)
        val colours = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(colours, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return ByteArray(colours.size) { (colours[it] and 0xff).toByte() } // gray: every channel holds it
    }

    private fun readVerified(name: String): ByteArray {
        val content = read(name)
        val digest = MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
        if (digest != manifest.getJSONObject("files").getJSONObject(name).getString("sha256")) {
            throw DamagedBundleException("$name was changed: its sha256 is not the one in the manifest")
        }
        return content
    }

    private fun read(name: String): ByteArray = assets.open("$folder/$name").use { it.readBytes() }

    private fun flatten(values: JSONArray): List<Double> =
        (0 until values.length()).flatMap { index ->
            values.optJSONArray(index)?.let { flatten(it) } ?: listOf(values.getDouble(index))
        }

    companion object {
        /** Words for the values 0 to 4 of the graph's `decision`. */
        val DECISIONS = listOf("identified", "ambiguous", "unfamiliar", "no construct found", "films swapped")
        private val OUTPUTS = listOf(
            "probabilities", "members", "boxes", "box_scores", "view_scores", "heatmaps", "prediction_set", "unfamiliarity", "decision",
        )
    }
}
