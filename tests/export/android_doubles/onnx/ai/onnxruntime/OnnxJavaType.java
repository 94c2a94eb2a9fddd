package ai.onnxruntime;

public enum OnnxJavaType {
    FLOAT,
    INT32,
    UINT8
}
