package edgekit

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.FloatBuffer

/** The ways in which ONNX Runtime Mobile runs a graph, the fastest first. */
enum class Way {
    /** Android's Neural Networks API: the accelerators that the phone's maker gave it, and its processor for the rest. */
    NNAPI,

    /** XNNPACK's kernels for ARM, and ONNX Runtime's own for the rest. */
    XNNPACK,

    /** ONNX Runtime's own kernels. */
    CPU,
}

/** ONNX Runtime Mobile. */
internal object GraphRuntime : Opener {
    private val environment = OrtEnvironment.getEnvironment()

    override val backend = "onnx"
    override val name = "ONNX Runtime"
    override val version: String get() = environment.version
    override val ways = Way.values().toList()

    override fun open(model: ByteArray, way: Way, threads: Int, inputs: List<TensorRow>, outputs: List<TensorRow>): Session =
        OrtSession.SessionOptions().use { options ->
            options.setIntraOpNumThreads(threads)
            when (way) {
                Way.NNAPI -> options.addNnapi()
                Way.XNNPACK -> {
                    options.addXnnpack(mapOf("intra_op_num_threads" to threads.toString()))
                    options.addConfigEntry("session.intra_op.allow_spinning", "0") // XNNPACK has threads of its own
                }
                Way.CPU -> Unit
            }
            OnnxSession(environment, environment.createSession(model, options), inputs, outputs)
        }
}

private class OnnxSession(
    private val environment: OrtEnvironment,
    private val session: OrtSession,
    private val inputs: List<TensorRow>,
    private val outputs: List<TensorRow>,
) : Session {
    override fun run(inputs: Map<String, Buffer>): Map<String, FloatArray> {
        val tensors = this.inputs.associate { it.name to makeTensor(inputs.getValue(it.name), it.shape) }
        try {
            return session.run(tensors).use { result -> outputs.associate { it.name to readValues(result.get(it.name).get() as OnnxTensor) } }
        } finally {
            tensors.values.forEach { it.close() }
        }
    }

    override fun close() = session.close()

    private fun makeTensor(values: Buffer, shape: LongArray): OnnxTensor = when (values) {
        is ByteBuffer -> OnnxTensor.createTensor(environment, values, shape, OnnxJavaType.UINT8)
        is FloatBuffer -> OnnxTensor.createTensor(environment, values, shape)
        else -> throw IllegalArgumentException("$values: no bytes and no floats")
    }

    private fun readValues(tensor: OnnxTensor): FloatArray {
        if (tensor.getInfo().type == OnnxJavaType.INT32) {
            val integers = tensor.getIntBuffer()
            return FloatArray(integers.remaining()) { integers.get(it).toFloat() }
        }
        val floats = tensor.getFloatBuffer()
        return FloatArray(floats.remaining()) { floats.get(it) }
    }
}
