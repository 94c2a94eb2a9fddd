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
    private class Case(val canvases: Map<String, ByteArray>, val outputs: JSONObject)

    private val cases = JSONObject(read("golden/golden.json").decodeToString()).getJSONArray("cases").let { cases ->
        List(cases.length()) { number ->
            val case = cases.getJSONObject(number)
            val films = case.getJSONObject("films")
            val canvases = films.keys().asSequence().associateWith { decodeGray(read("golden/" + films.getString(it))) }
            Case(canvases, case.getJSONObject("outputs"))
        }
    }

    /**
     * Answer every case, and measure how far the answers are from the expected ones.
     *
     * @param described `tensors.outputs` of the manifest; an output without a tolerance is not compared
     * @param infer answers for canvases by view, with the outputs by name
     */
    fun compare(described: JSONObject, infer: (Map<String, ByteArray>) -> Map<String, FloatArray>): List<Check> {
        val names = described.keys().asSequence().filterNot { described.getJSONObject(it).isNull("tolerance") }.toList()
        val errors = names.associateWithTo(mutableMapOf()) { 0.0 }
        for (case in cases) {
            val answer = infer(case.canvases)
            val found = flatten(case.outputs.getJSONArray("found"))
            for (name in names) {
                val expected = flatten(case.outputs.getJSONArray(name))
                val isOfFound = described.getJSONObject(name).getBoolean("of_found")
                expected.forEachIndexed { index, value ->
                    val counts = !isOfFound || found[index * found.size / expected.size] > 0 // where nothing is, its row is arbitrary
                    val error = abs(answer.getValue(name)[index] - value).let { if (it.isNaN()) Double.POSITIVE_INFINITY else it }
                    if (counts && error > errors.getValue(name)) errors[name] = error
                }
            }
        }
        return names.map { Check(it, errors.getValue(it), described.getJSONObject(it).getDouble("tolerance")) }
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
