package edgekit

import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min

/**
 * A film's gray levels, made as "Gray levels" of edgekit's docs/canvas.md says.
 *
 * @property pixels a byte each from 0 to 255 (Kotlin shows those above 127 as negative), row by row; larger is brighter
 */
class Film(val pixels: ByteArray, val width: Int, val height: Int) {
    init {
        require(width > 0 && height > 0 && pixels.size.toLong() == width.toLong() * height) {
            "a film of $width x $height pixels has that many bytes, this one has ${pixels.size}"
        }
    }
}

/** Where a film lies on its canvas, in canvas pixels: the first column and row that it covers, and how many. */
class Letterbox(val left: Int, val top: Int, val width: Int, val height: Int)

/** Find where a film of [width] x [height] pixels lies on a canvas of [side] x [side]: "Letterbox" of docs/canvas.md. */
fun placeFilm(width: Int, height: Int, side: Int): Letterbox {
    val scale = side.toDouble() / max(width, height)
    val across = max(1, round(width * scale))
    val down = max(1, round(height * scale))
    return Letterbox((side - across) / 2, (side - down) / 2, across, down)
}

/** Make the canvas that the graph sees, [side] x [side] gray levels: "Letterbox" and "Resampling" of docs/canvas.md. */
fun makeCanvas(film: Film, side: Int): ByteArray {
    val place = placeFilm(film.width, film.height, side)
    val across = weigh(film.width, place.width)
    val down = weigh(film.height, place.height)
    val canvas = ByteArray(side * side)
    val line = FloatArray(film.width) // one at a time: a phone has no room for all of a large film in floats
    down.forEachIndexed { row, rows ->
        line.fill(0f)
        rows.weights.forEachIndexed { number, weight ->
            val start = (rows.first + number) * film.width
            for (column in line.indices) line[column] += weight * (film.pixels[start + column].toInt() and 0xff)
        }
        val start = (place.top + row) * side + place.left
        across.forEachIndexed { column, columns ->
            var sum = 0f
            columns.weights.forEachIndexed { number, weight -> sum += weight * line[columns.first + number] }
            canvas[start + column] = round(min(255f, sum).toDouble()).toByte()
        }
    }
    return canvas
}

/** The input samples that make one output, from [first] on, with weights whose sum is 1. */
private class Share(val first: Int, val weights: FloatArray)

/** Weigh the [n] input samples of one axis for each of [m] outputs, by a triangle that is wide enough to let no pattern through. */
private fun weigh(n: Int, m: Int): List<Share> {
    val step = n.toDouble() / m
    val widen = max(step, 1.0)
    return List(m) { index ->
        val centre = (index + 0.5) * step
        val samples = max(0, floor(centre - widen).toInt())..min(n - 1, ceil(centre + widen).toInt())
        val weights = samples.map { max(0.0, 1 - abs(it + 0.5 - centre) / widen) }
        val total = weights.sum()
        Share(samples.first, FloatArray(weights.size) { (weights[it] / total).toFloat() })
    }
}

/** Halves up, as docs/canvas.md rounds. */
private fun round(value: Double) = floor(value + 0.5).toInt()
