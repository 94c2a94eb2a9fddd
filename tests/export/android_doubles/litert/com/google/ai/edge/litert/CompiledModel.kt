// Stand in for LiteRT on the GPU, with the names and types of its Kotlin API.
package com.google.ai.edge.litert

import doubles.Graph
import doubles.Pipe
import doubles.Refused
import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.FloatBuffer
import java.nio.IntBuffer

class LiteRtException(message: String) : Exception(message)

enum class Accelerator { NONE, CPU, GPU, NPU }

class Environment private constructor() : AutoCloseable {
    fun getAvailableAccelerators(): Set<Accelerator> =
        if (System.getProperty("gpu") == "none") setOf(Accelerator.CPU) else setOf(Accelerator.CPU, Accelerator.GPU)

    override fun close() {
        Pipe.ask("HOLD -1")
    }

    companion object {
        fun create(): Environment {
            Pipe.ask("HOLD 1")
            return Environment()
        }
    }
}

class TensorBuffer internal constructor(internal var values: Buffer? = null) : AutoCloseable {
    fun writeInt8(data: ByteArray) {
        values = ByteBuffer.wrap(data)
    }

    fun writeFloat(data: FloatArray) {
        values = FloatBuffer.wrap(data)
    }

    fun readInt(): IntArray = (values as IntBuffer).let { integers -> IntArray(integers.remaining()) { integers.get(it) } }

    fun readFloat(): FloatArray = (values as FloatBuffer).let { floats -> FloatArray(floats.remaining()) { floats.get(it) } }

    override fun close() = Unit
}

class CompiledModel private constructor(private val graph: Graph) : AutoCloseable {
    data class CpuOptions(val numThreads: Int? = null, val xnnPackFlags: Int? = null, val xnnPackWeightCachePath: String? = null)

    data class GpuOptions(
        val constantTensorSharing: Boolean? = null,
        val infiniteFloatCapping: Boolean? = null,
        val benchmarkMode: Boolean? = null,
        val allowSrcQuantizedFcConvOps: Boolean? = null,
        val precision: Precision? = null,
    ) {
        enum class Precision { DEFAULT, FP16, FP32 }
    }

    class Options(internal val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        var cpuOptions: CpuOptions? = null
        var gpuOptions: GpuOptions? = null
    }

    fun createInputBuffer(inputName: String, signature: String? = null) = TensorBuffer()

    fun createOutputBuffer(outputName: String, signature: String? = null) = TensorBuffer()

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String? = null) {
        check(signature == null)
        val answer = graph.run(inputs.mapValues { checkNotNull(it.value.values) })
        outputs.forEach { (name, buffer) -> buffer.values = answer.getValue(name) }
    }

    override fun close() = graph.close()

    companion object {
        fun create(filePath: String, options: Options, optionalEnv: Environment? = null): CompiledModel {
            checkNotNull(optionalEnv)
            if (options.accelerators != setOf(Accelerator.GPU, Accelerator.CPU)) throw LiteRtException("Some ops are not accelerated")
            if (options.gpuOptions?.precision != GpuOptions.Precision.FP32) throw LiteRtException("float16 answers otherwise")
            try {
                return CompiledModel(Graph("GPU", options.cpuOptions?.numThreads ?: -1, File(filePath).readBytes()))
            } catch (error: Refused) {
                throw LiteRtException(error.message ?: "")
            }
        }
    }
}
