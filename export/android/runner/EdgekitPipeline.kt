package edgekit

import android.content.Context
import android.os.Build
import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.security.MessageDigest
import java.util.Locale
import org.json.JSONObject

/** A file of the bundle is not the one that its manifest describes. */
class DamagedBundleException(message: String) : Exception(message)

/** This device gave no memory for a bundle. Nothing was found out about it: the next opening may succeed. */
class TooLittleMemoryException(message: String, cause: OutOfMemoryError) : Exception(message, cause)

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
 * Runs an edgekit bundle: one canvas a view in, the whole answer out. The graph does the work; this class checks the hashes of what it reads,
 * checks this device with the golden vectors, and names the tensors as the manifest lists them.
 *
 * Opening takes the fastest way of running the graph that gives the golden answers. That is found out once for each bundle, version of the
 * runtime and build of the device's system, and remembered; what failed is not.
 *
 * @param folder the bundle's folder in the app's assets
 * @param threads threads within an operator
 * @param ways what is tried, the fastest first; a way that is not among the runtime's usual ones is tried only if an app names it here
 * @param cache a folder for what was found out; the system may empty it
 * @throws DamagedBundleException a file of the bundle was changed
 * @throws DisagreementException this device does not give the golden answers
 * @throws TooLittleMemoryException this device gave no memory
 */
class EdgekitPipeline(
    context: Context,
    private val folder: String = "bundle",
    private val threads: Int = 2,
    ways: List<Way> = GraphRuntime.ways,
    cache: File = File(context.cacheDir, "edgekit"),
) : AutoCloseable {
    private val assets = context.assets
    private val manifest = readManifest()

    /** Brands in the order of `probabilities`. */
    val brands: List<String> = manifest.getJSONArray("brands").let { names -> List(names.length()) { names.getString(it) } }

    private val task = manifest.getJSONObject("task")
    private val tensors = manifest.getJSONObject("tensors")
    private val inputs = readRows(tensors.getJSONObject("inputs"))
    private val outputs = readRows(tensors.getJSONObject("outputs"))

    /** Names of the films, in the order of `present`, `found` and `boxes`. */
    val views: List<String> = task.getJSONArray("views").let { names -> List(names.length()) { names.getString(it) } }

    /** What is asked of a patient's films. */
    val question: String = task.getString("question")

    /** The word for what is looked for on a film. */
    val found: String = task.getString("found")

    /** The word for what is answered. */
    val told: String = task.getString("told")

    /** What an answer may be used for: shown wherever one is. */
    val intendedUse: String = task.getString("intended_use")

    /** Side S of the canvas in pixels. */
    val side: Int = manifest.getJSONObject("canvas").getInt("side")

    /** What answers. */
    val way: Way

    /** Faster ways that are not used, and why. */
    val rejected: List<Rejection>

    private val memory = Memory(File(cache, manifest.getString("model_sha256") + ".json"), identify(ways))
    private val session: Session

    init {
        val backend = manifest.getString("backend")
        require(backend == GraphRuntime.backend) {
            "this bundle is one for $backend, and the app was built to run ${GraphRuntime.backend}: replace its runner by the one in the bundle"
        }
        val known = memory.recall()
        val choice = try {
            openGraph(known, ways)
        } catch (error: OutOfMemoryError) { // other apps decide that, not the bundle: no slower way is taken, and nothing is forgotten
            throw TooLittleMemoryException(describeRefusal(), error)
        }
        way = choice.way
        rejected = known?.rejected ?: choice.rejected
        session = choice.opened
        if (known == null) memory.remember(Found(way, rejected))
    }

    /**
     * Answer for one patient.
     *
     * @param films the canvas by view, of those given: S * S gray levels, row by row, made from a film as edgekit's docs/canvas.md says
     */
    fun infer(films: Map<String, ByteArray>): Answer {
        val outputs = run(session, films)
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

    private fun openGraph(known: Found?, ways: List<Way>): Choice<Session> {
        val golden = if (known == null) Golden(::readVerified) else null
        val model = readVerified(manifest.getString("model"))
        try {
            return chooseWay(if (known == null) ways else listOf(known.way)) { way -> openWay(model, way, golden) }
        } catch (error: Exception) {
            memory.forget() // what opened once opens no more: the next opening tries every way again
            throw error
        }
    }

    private fun openWay(model: ByteArray, way: Way, golden: Golden?): Session {
        val session = GraphRuntime.open(model, way, threads, inputs, outputs)
        try {
            val failed = golden?.let { compare(it, session) }.orEmpty().filterNot { it.passed }
            if (failed.isNotEmpty()) throw DisagreementException(failed.joinToString())
        } catch (error: Throwable) { // also without memory
            session.close()
            throw error
        }
        return session
    }

    private fun compare(golden: Golden, session: Session): List<Check> =
        golden.compare(tensors.getJSONObject("outputs")) { films -> run(session, films) }

    /** All that a check of the golden vectors holds for: the manifest's hash stands for the bundle, the fingerprint names the device, too. */
    private fun identify(ways: List<Way>): String {
        val runtime = listOf("${GraphRuntime.name} ${GraphRuntime.version}", "$threads threads", "$ways", Build.FINGERPRINT)
        return (listOf(manifest.getString("manifest_sha256")) + runtime).joinToString("\n")
    }

    private fun describeRefusal(): String {
        val size = manifest.getJSONObject("files").getJSONObject(manifest.getString("model")).getLong("size")
        val megabytes = "%.1f".format(Locale.ROOT, size / 1e6)
        return "this device gave no memory to open the bundle, whose model has $megabytes MB. Close other apps and try again; " +
            "if it never opens, give the app android:largeHeap=\"true\" in its manifest, or export a smaller variant."
    }

    private fun run(session: Session, films: Map<String, ByteArray>): Map<String, FloatArray> {
        val unknown = films.keys - views.toSet()
        require(unknown.isEmpty()) { "$unknown: no view of this bundle, which has $views" }
        return session.run(inputs.associate { it.name to if (it.name == PRESENT) makePresent(films) else makeFilm(films[it.name]) })
    }

    private fun makePresent(films: Map<String, ByteArray>): Buffer =
        FloatBuffer.wrap(FloatArray(views.size) { if (views[it] in films) 1f else 0f })

    private fun makeFilm(canvas: ByteArray?): Buffer {
        val pixels = canvas ?: ByteArray(side * side)
        require(pixels.size == side * side) { "a canvas has $side x $side bytes, this one has ${pixels.size}" }
        return ByteBuffer.wrap(pixels)
    }

    private fun readRows(described: JSONObject): List<TensorRow> = described.keys().asSequence().toList().map { name ->
        val row = described.getJSONObject(name)
        val shape = row.getJSONArray("shape")
        TensorRow(name, row.getString("dtype"), LongArray(shape.length()) { shape.getLong(it) })
    }

    /** Read the manifest, whose last entry is the hash of all that stands before it. */
    private fun readManifest(): JSONObject {
        val content = read("manifest.json")
        val body = maxOf(0, content.size - SEAL.format("").length - 64)
        val seal = SEAL.format(hash(content.copyOf(body) + "\n}\n".encodeToByteArray()))
        if (!content.copyOfRange(body, content.size).contentEquals(seal.encodeToByteArray())) {
            throw DamagedBundleException("manifest.json was changed: its sha256 is not the one it states")
        }
        return JSONObject(content.decodeToString())
    }

    private fun hash(content: ByteArray) = MessageDigest.getInstance("SHA-256").digest(content).joinToString("") { "%02x".format(it) }

    private fun readVerified(name: String): ByteArray {
        val content = read(name)
        if (hash(content) != manifest.getJSONObject("files").getJSONObject(name).getString("sha256")) {
            throw DamagedBundleException("$name was changed: its sha256 is not the one in the manifest")
        }
        return content
    }

    private fun read(name: String): ByteArray = assets.open("$folder/$name").use { it.readBytes() }

    companion object {
        /** Words for the values 0 to 4 of the graph's `decision`: for programs. People are told "no [found] found". */
        val DECISIONS = listOf("identified", "ambiguous", "unfamiliar", "no construct found", "films swapped")

        /** What tells the graph which films are given; its other inputs are the films. */
        private const val PRESENT = "present"
        private const val SEAL = ",\n  \"manifest_sha256\": \"%s\"\n}\n"
    }
}
