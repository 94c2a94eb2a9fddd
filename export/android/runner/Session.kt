package edgekit

import java.nio.Buffer

/** A tensor of the graph, as the manifest describes it. */
internal class TensorRow(val name: String, val dtype: String, val shape: LongArray) {
    /** How many numbers it holds. */
    val size get() = shape.fold(1L) { product, side -> product * side }.toInt()
}

/** A graph that is open. */
internal interface Session : AutoCloseable {
    /**
     * Run the graph.
     *
     * @param inputs every input by name, all of an array: a ByteBuffer where the manifest says uint8, else a FloatBuffer
     * @return every output by name, row by row; integers as floats
     */
    fun run(inputs: Map<String, Buffer>): Map<String, FloatArray>
}

/**
 * A runtime that opens graphs. Each subfolder of the runner has one, called [GraphRuntime], with the [Way]s that it knows; an app compiles the
 * subfolder that has the name of its bundle's backend, and no other.
 */
internal interface Opener {
    /** The bundles that it opens, as the manifest's `backend` has it. */
    val backend: String

    /** For people. */
    val name: String

    /** Of what runs the graph, not of this file. */
    val version: String

    /** What is tried unless an app says otherwise, the fastest first. */
    val ways: List<Way>

    /** Open `model`, the bytes of the bundle's file. It throws where it can't, and leaves nothing open then. */
    fun open(model: ByteArray, way: Way, threads: Int, inputs: List<TensorRow>, outputs: List<TensorRow>): Session
}
