package edgekit

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.Environment
import com.google.ai.edge.litert.TensorBuffer
import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.IntBuffer
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.TensorFlowLite

/** The ways in which LiteRT runs a graph, the fastest first. */
enum class Way {
    /** The GPU in float32, and XNNPACK for what it can't compute. Only for apps that ask for it. */
    GPU,

    /** XNNPACK's kernels for ARM, and LiteRT's own for the rest. */
    XNNPACK,

    /** LiteRT's own kernels. */
    CPU,
}

/**
 * LiteRT 2. On the processor its Interpreter runs the graph: it takes checked bytes instead of a file, unsigned bytes, tensors by name, and
 * does without XNNPACK where asked. It no longer knows the GPU, which only CompiledModel does.
 */
internal object GraphRuntime : Opener {
    override val backend = "litert"
    override val name = "LiteRT"
    override val version: String get() = TensorFlowLite.runtimeVersion()
    override val ways = listOf(Way.XNNPACK, Way.CPU)

    override fun open(model: ByteArray, way: Way, threads: Int, inputs: List<TensorRow>, outputs: List<TensorRow>): Session = when (way) {
        Way.GPU -> openOnGpu(model, threads, inputs, outputs)
        Way.XNNPACK, Way.CPU -> {
            val bytes = ByteBuffer.allocateDirect(model.size).order(ByteOrder.nativeOrder()).put(model) // the Interpreter reads no other
            val options = Interpreter.Options().setNumThreads(threads).setUseXNNPACK(way == Way.XNNPACK)
            CpuSession(Interpreter(bytes, options), outputs)
        }
    }

    private fun openOnGpu(model: ByteArray, threads: Int, inputs: List<TensorRow>, outputs: List<TensorRow>): Session {
        val opened = mutableListOf<AutoCloseable>()
        val file = File.createTempFile("edgekit", ".tflite") // CompiledModel opens no bytes
        try {
            val environment = Environment.create().also { opened += it }
            check(Accelerator.GPU in environment.getAvailableAccelerators()) { // it would compute on the processor, and not say so
                "LiteRT finds no GPU: this device has none that it knows, or the app lacks com.google.ai.edge.litert:litert-gpu"
            }
            file.writeBytes(model)
            val options = CompiledModel.Options(Accelerator.GPU, Accelerator.CPU)
            options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
            options.gpuOptions = CompiledModel.GpuOptions(precision = CompiledModel.GpuOptions.Precision.FP32) // its default is float16
            val compiled = CompiledModel.create(file.path, options, environment).also { opened += it }
            val given = inputs.associate { it.name to compiled.createInputBuffer(it.name).also { opened += it } }
            val answers = outputs.associateWith { compiled.createOutputBuffer(it.name).also { opened += it } }
            return GpuSession(compiled, given, answers, opened)
        } catch (error: Throwable) {
            opened.asReversed().forEach { it.close() }
            throw error
        } finally {
            file.delete()
        }
    }
}

private class CpuSession(private val interpreter: Interpreter, private val outputs: List<TensorRow>) : Session {
    @Synchronized // an Interpreter serves one thread at a time
    override fun run(inputs: Map<String, Buffer>): Map<String, FloatArray> {
        val answers = outputs.associate { it.name to if (it.dtype == "int32") IntBuffer.allocate(it.size) else FloatBuffer.allocate(it.size) }
        interpreter.runSignature(inputs, answers)
        return answers.mapValues { (_, values) -> if (values is IntBuffer) toFloats(values.array()) else (values as FloatBuffer).array() }
    }

    override fun close() = interpreter.close()
}

private class GpuSession(
    private val compiled: CompiledModel,
    private val given: Map<String, TensorBuffer>,
    private val answers: Map<TensorRow, TensorBuffer>,
    private val opened: List<AutoCloseable>,
) : Session {
    private val named = answers.mapKeys { (row, _) -> row.name }

    @Synchronized // its buffers serve one thread at a time
    override fun run(inputs: Map<String, Buffer>): Map<String, FloatArray> {
        for ((name, buffer) in given) {
            when (val values = inputs.getValue(name)) {
                is ByteBuffer -> buffer.writeInt8(values.array()) // the bits are copied, signed or not
                is FloatBuffer -> buffer.writeFloat(values.array())
                else -> throw IllegalArgumentException("$values: no bytes and no floats")
            }
        }
        compiled.run(given, named)
        return answers.entries.associate { (row, answer) -> row.name to if (row.dtype == "int32") toFloats(answer.readInt()) else answer.readFloat() }
    }

    override fun close() = opened.asReversed().forEach { it.close() }
}

private fun toFloats(integers: IntArray) = FloatArray(integers.size) { integers[it].toFloat() }
