package edgekit

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import android.content.Context
import android.os.Build
import java.io.File
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.security.MessageDigest
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

/**
 * Runs an edgekit bundle: two canvases in, the whole answer out. The graph does the work; this class checks the hashes of what it loads,
 * checks this device with the golden vectors, and names the tensors.
 *
 * Opening takes the fastest way of running the graph that gives the golden answers. That is found out once for each bundle, version of ONNX
 * Runtime and build of the device's system, and remembered; what failed is not.
 *
 * @param folder the bundle's folder in the app's assets
 * @param threads threads within an operator
 * @param ways what is tried, the fastest first
 * @param cache a folder for what was found out; the system may empty it
 * @throws DamagedBundleException a file of the bundle was changed
 * @throws DisagreementException this device does not give the golden answers
 */
class EdgekitPipeline(
    context: Context,
    private val folder: String = "bundle",
    private val threads: Int = 2,
    ways: List<Way> = Way.values().toList(),
    cache: File = File(context.cacheDir, "edgekit"),
) : AutoCloseable {
    private val assets = context.assets
    private val manifest = JSONObject(read("manifest.json").decodeToString())
    private val environment = OrtEnvironment.getEnvironment()

    /** Brands in the order of `probabilities`. */
    val brands: List<String> = manifest.getJSONArray("brands").let { names -> List(names.length()) { names.getString(it) } }

    /** Side S of the canvas in pixels. */
    val side: Int = manifest.getJSONObject("canvas").getInt("side")

    /** What answers. */
    val way: Way

    /** Faster ways that are not used, and why. */
    val rejected: List<Rejection>

    private val memory = Memory(File(cache, manifest.getString("model_sha256") + ".json"), identify(ways))
    private val session: OrtSession

    init {
        val known = memory.recall()
        val golden = if (known == null) Golden(::readVerified) else null
        val model = readVerified(manifest.getString("model"))
        val candidates = if (known == null) ways else listOf(known.way)
        val choice = try {
            chooseWay(candidates) { way -> openSession(model, way, golden) }
        } catch (error: Exception) {
            memory.forget() // what opened once opens no more: the next opening tries every way again
            throw error
        }
        way = choice.way
        rejected = known?.rejected ?: choice.rejected
        session = choice.opened
        if (known == null) memory.remember(Found(way, rejected))
    }

    /**
     * Answer for one patient. A canvas is S * S gray levels, row by row, made from a film as edgekit's docs/canvas.md says; null when the
     * film is missing.
     */
    fun infer(ap: ByteArray?, lateral: ByteArray?): Answer {
        val outputs = run(session, ap, lateral)
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

    /** Run the bundle's golden vectors, also when they were checked before; a failure is found out again at the next opening. */
    fun selfTest(): List<Check> {
        val checks = compare(Golden(::readVerified), session)
        if (!checks.all { it.passed }) memory.forget()
        return checks
    }

    override fun close() = session.close()

    private fun openSession(model: ByteArray, way: Way, golden: Golden?): OrtSession {
        val session = OrtSession.SessionOptions().use { options ->
            options.setIntraOpNumThreads(threads)
            when (way) {
                Way.NNAPI -> options.addNnapi()
                Way.XNNPACK -> {
                    options.addXnnpack(mapOf("intra_op_num_threads" to threads.toString()))
                    options.addConfigEntry("session.intra_op.allow_spinning", "0") // XNNPACK has threads of its own
                }
                Way.CPU -> Unit
            }
            environment.createSession(model, options)
        }
        try {
            val failed = golden?.let { compare(it, session) }.orEmpty().filterNot { it.passed }
            if (failed.isNotEmpty()) throw DisagreementException(failed.joinToString())
        } catch (error: Exception) {
            session.close()
            throw error
        }
        return session
    }

    private fun compare(golden: Golden, session: OrtSession): List<Check> =
        golden.compare(OUTPUTS, manifest.getJSONObject("thresholds").getDouble("box")) { ap, lateral -> run(session, ap, lateral) }

    /** All that a check of the golden vectors holds for; the system's fingerprint names the device, too. */
    private fun identify(ways: List<Way>): String {
        val files = manifest.getJSONObject("files")
        val golden = files.keys().asSequence().filter { it.startsWith("golden/") }.sorted()
        val hashes = golden.map { "$it ${files.getJSONObject(it).getString("sha256")}" }
        val runtime = listOf("ONNX Runtime ${environment.version}", "$threads threads", "$ways", Build.FINGERPRINT)
        return (listOf(manifest.getString("model_sha256")) + hashes + runtime).joinToString("\n")
    }

    private fun run(session: OrtSession, ap: ByteArray?, lateral: ByteArray?): Map<String, FloatArray> {
        val present = floatArrayOf(if (ap == null) 0f else 1f, if (lateral == null) 0f else 1f)
        val inputs = mapOf(
            "ap" to makeFilm(ap),
            "lateral" to makeFilm(lateral),
            "present" to OnnxTensor.createTensor(environment, FloatBuffer.wrap(present), longArrayOf(2)),
        )
        try {
            return session.run(inputs).use { result -> OUTPUTS.associateWith { readValues(result.get(it).get() as OnnxTensor) } }
        } finally {
            inputs.values.forEach { it.close() }
        }
    }

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

    private fun readVerified(name: String): ByteArray {
        val content = read(name)
        val digest = MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }
        if (digest != manifest.getJSONObject("files").getJSONObject(name).getString("sha256")) {
            throw DamagedBundleException("$name was changed: its sha256 is not the one in the manifest")
        }
        return content
    }

    private fun read(name: String): ByteArray = assets.open("$folder/$name").use { it.readBytes() }

    companion object {
        /** Words for the values 0 to 4 of the graph's `decision`. */
        val DECISIONS = listOf("identified", "ambiguous", "unfamiliar", "no construct found", "films swapped")
        private val OUTPUTS = listOf(
            "probabilities", "members", "boxes", "box_scores", "view_scores", "heatmaps", "prediction_set", "unfamiliarity", "decision",
        )
    }
}
