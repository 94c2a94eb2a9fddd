package edgekit

import android.graphics.BitmapFactory
import kotlin.math.abs
import org.json.JSONArray
import org.json.JSONObject

/** How far one output is from the golden vectors, and how far it may be. */
class Check(val output: String, val error: Double, val tolerance: Double) {
    val passed get() = error <= tolerance

    override fun toString() = "$output is off by %.2g, accepted $tolerance".format(java.util.Locale.ROOT, error)
}

/**
 * The bundle's golden vectors: canvases, and the outputs expected of them.
 *
 * @param read gives a file of the bundle, its hash checked
 */
internal class Golden(read: (String) -> ByteArray) {
    private class Case(val ap: ByteArray?, val lateral: ByteArray?, val outputs: JSONObject)

    private val document = JSONObject(read("golden/golden.json").decodeToString())
    private val cases = document.getJSONArray("cases").let { cases ->
        List(cases.length()) { number ->
            val case = cases.getJSONObject(number)
            val films = case.getJSONObject("films")
            val readCanvas = { view: String -> if (films.has(view)) decodeGray(read("golden/" + films.getString(view))) else null }
            Case(readCanvas("ap"), readCanvas("lateral"), case.getJSONObject("outputs"))
        }
    }

    /**
     * Answer every case, and measure how far the answers are from the expected ones.
     *
     * @param names the outputs that are compared
     * @param boxThreshold without a construct the best cell is arbitrary, and so is its box: it counts from this score on
     * @param infer answers for the canvases AP and lateral, with the outputs by name
     */
    fun compare(names: List<String>, boxThreshold: Double, infer: (ByteArray?, ByteArray?) -> Map<String, FloatArray>): List<Check> {
        val errors = names.associateWithTo(mutableMapOf()) { 0.0 }
        for (case in cases) {
            val found = infer(case.ap, case.lateral)
            val scores = flatten(case.outputs.getJSONArray("box_scores"))
            for (name in names) {
                flatten(case.outputs.getJSONArray(name)).forEachIndexed { index, value ->
                    val counts = name != "boxes" || scores[index / 4] >= boxThreshold
                    val error = abs(found.getValue(name)[index] - value).let { if (it.isNaN()) Double.POSITIVE_INFINITY else it }
                    if (counts && error > errors.getValue(name)) errors[name] = error
                }
            }
        }
        val tolerance = document.getJSONObject("tolerance")
        return names.map { Check(it, errors.getValue(it), tolerance.getDouble(it)) }
    }

    private fun decodeGray(png: ByteArray): ByteArray {
        val bitmap = BitmapFactory.decodeByteArray(png, 0, png.size)
        val colours = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(colours, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return ByteArray(colours.size) { (colours[it] and 0xff).toByte() } // gray: every channel holds it
    }

    private fun flatten(values: JSONArray): List<Double> =
        (0 until values.length()).flatMap { index ->
            values.optJSONArray(index)?.let { flatten(it) } ?: listOf(values.getDouble(index))
        }
}
