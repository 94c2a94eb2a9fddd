import CoreML
import CoreVideo
import CryptoKit
import Foundation

public enum EdgekitError: Error {
    /// A file of the bundle is not the one that its manifest describes.
    case damagedBundle(String)
    /// A canvas does not have side * side bytes.
    case wrongCanvas(String)
    /// What runs the graph here gives other answers than the bundle's golden vectors; with it every way that was tried.
    case disagrees(String, [EdgekitRejection])
}

extension EdgekitError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .damagedBundle(let text), .wrongCanvas(let text), .disagrees(let text, _): return text
        }
    }
}

/// What the graph says of one patient.
public struct EdgekitAnswer {
    /// One of `EdgekitPipeline.decisions`.
    public let decision: String
    /// The answer; only when `decision` is "identified".
    public let brand: String?
    /// The brands that can't be excluded at the manifest's coverage.
    public let predictionSet: [String]
    /// The graph's tensors, row by row; integers as floats.
    public let outputs: [String: [Float]]
}

/// Runs an edgekit bundle: two canvases in, the whole answer out. The graph does the work; this class checks the hashes of what it loads,
/// checks this device with the golden vectors, and names the tensors.
public final class EdgekitPipeline {
    /// Words for the values 0 to 4 of the graph's `decision`.
    public static let decisions = ["identified", "ambiguous", "unfamiliar", "no construct found", "films swapped"]
    private static let views = ["ap", "lateral"]
    private static let outputs = [
        "probabilities", "members", "boxes", "box_scores", "view_scores", "heatmaps", "prediction_set", "unfamiliarity", "decision",
    ]

    private struct Manifest: Decodable {
        struct File: Decodable { let sha256: String }
        struct Canvas: Decodable { let side: Int }
        struct Thresholds: Decodable { let box: Double }
        let model: String
        let modelHash: String
        let brands: [String]
        let canvas: Canvas
        let thresholds: Thresholds
        let files: [String: File]

        enum CodingKeys: String, CodingKey {
            case model, brands, canvas, thresholds, files
            case modelHash = "model_sha256"
        }
    }

    private let bundle: URL
    private let manifest: Manifest
    private let model: MLModel
    private let memory: EdgekitMemory

    /// What answers.
    public let way: EdgekitWay
    /// Faster ways that are not used, and why.
    public let rejected: [EdgekitRejection]
    /// Brands in the order of `probabilities`.
    public var brands: [String] { manifest.brands }
    /// Side S of the canvas in pixels.
    public var side: Int { manifest.canvas.side }

    /// Verify, compile and load a bundle, in the fastest way that gives the golden answers. That is found out once for each bundle, kind of
    /// device and build of its system, and remembered; what failed is not.
    ///
    /// - Parameters:
    ///   - bundle: the bundle's folder.
    ///   - ways: what is tried, the fastest first.
    ///   - defaults: keep what was found out.
    /// - Throws: `EdgekitError.damagedBundle`; `EdgekitError.disagrees` when this device does not give the golden answers.
    public init(bundle: URL, ways: [EdgekitWay] = EdgekitWay.allCases, defaults: UserDefaults = .standard) async throws {
        let manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: bundle.appendingPathComponent("manifest.json")))
        let package = manifest.model
        for name in manifest.files.keys where name == package || name.hasPrefix(package + "/") {
            _ = try Self.readVerified(name, bundle: bundle, manifest: manifest)
        }
        let hashes = manifest.files.filter { $0.key.hasPrefix("golden/") }.map { "\($0.key) \($0.value.sha256)" }.sorted()
        let names = ways.map(\.rawValue)
        let identity = ([manifest.modelHash, EdgekitMemory.describeDevice()] + names + hashes).joined(separator: "\n")
        let memory = EdgekitMemory(defaults: defaults, key: "edgekit." + manifest.modelHash, identity: identity)
        let known = memory.recall()
        let golden = try known == nil ? EdgekitGolden { try Self.readVerified($0, bundle: bundle, manifest: manifest) } : nil
        let compiled = try await MLModel.compileModel(at: bundle.appendingPathComponent(package))
        let candidates = known.map { [$0.way] } ?? ways
        let choice: EdgekitChoice<MLModel>
        do {
            choice = try chooseWay(candidates) { way in
                let configuration = MLModelConfiguration()
                configuration.computeUnits = way.computeUnits
                let model = try MLModel(contentsOf: compiled, configuration: configuration)
                let failed = try golden.map { try Self.compare($0, model, manifest) }?.filter { !$0.passed } ?? []
                if !failed.isEmpty { throw EdgekitError.disagrees(failed.map(\.description).joined(separator: ", "), []) }
                return model
            }
        } catch {
            memory.forget()  // what opened once opens no more: the next opening tries every way again
            throw error
        }
        self.bundle = bundle
        self.manifest = manifest
        self.memory = memory
        way = choice.way
        rejected = known?.rejected ?? choice.rejected
        model = choice.opened
        if known == nil { try memory.remember(way: way, rejected: rejected) }
    }

    /// Answer for one patient. A canvas is S * S gray levels, row by row, made from a film as edgekit's docs/canvas.md says; nil when the
    /// film is missing.
    public func infer(ap: [UInt8]?, lateral: [UInt8]?) throws -> EdgekitAnswer {
        let outputs = try Self.run(model, side: side, ap: ap, lateral: lateral)
        let decision = Self.decisions[Int(outputs["decision"]![0])]
        let probabilities = outputs["probabilities"]!
        let likeliest = probabilities.indices.max { probabilities[$0] < probabilities[$1] }!
        return EdgekitAnswer(
            decision: decision,
            brand: decision == "identified" ? brands[likeliest] : nil,
            predictionSet: brands.indices.filter { outputs["prediction_set"]![$0] == 1 }.map { brands[$0] },
            outputs: outputs
        )
    }

    /// Run the bundle's golden vectors, also when they were checked before; a failure is found out again at the next opening.
    public func selfTest() throws -> [EdgekitCheck] {
        let checks = try Self.compare(EdgekitGolden { try Self.readVerified($0, bundle: bundle, manifest: manifest) }, model, manifest)
        if !checks.allSatisfy(\.passed) { memory.forget() }
        return checks
    }

    private static func compare(_ golden: EdgekitGolden, _ model: MLModel, _ manifest: Manifest) throws -> [EdgekitCheck] {
        try golden.compare(names: outputs, boxThreshold: manifest.thresholds.box) { ap, lateral in
            try run(model, side: manifest.canvas.side, ap: ap, lateral: lateral)
        }
    }

    private static func run(_ model: MLModel, side: Int, ap: [UInt8]?, lateral: [UInt8]?) throws -> [String: [Float]] {
        let present = try MLMultiArray(shape: [2], dataType: .float32)
        present[0] = ap == nil ? 0 : 1
        present[1] = lateral == nil ? 0 : 1
        let inputs = try MLDictionaryFeatureProvider(dictionary: [
            "ap": MLFeatureValue(pixelBuffer: makeFilm(ap, side: side)),
            "lateral": MLFeatureValue(pixelBuffer: makeFilm(lateral, side: side)),
            "present": MLFeatureValue(multiArray: present),
        ])
        let result = try model.prediction(from: inputs)
        var outputs: [String: [Float]] = [:]
        for name in Self.outputs {
            guard let tensor = result.featureValue(for: name)?.multiArrayValue else {
                throw EdgekitError.damagedBundle("the model has no output \(name)")
            }
            outputs[name] = MLShapedArray<Float>(converting: tensor).scalars  // follows the strides, which may be padded
        }
        return outputs
    }

    private static func readVerified(_ name: String, bundle: URL, manifest: Manifest) throws -> Data {
        let content = try Data(contentsOf: bundle.appendingPathComponent(name))
        let digest = SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
        guard digest == manifest.files[name]?.sha256 else {
            throw EdgekitError.damagedBundle("\(name) was changed: its sha256 is not the one in the manifest")
        }
        return content
    }

    private static func makeFilm(_ canvas: [UInt8]?, side: Int) throws -> CVPixelBuffer {
        let pixels = canvas ?? [UInt8](repeating: 0, count: side * side)
        guard pixels.count == side * side else {
            throw EdgekitError.wrongCanvas("a canvas has \(side) x \(side) bytes, this one has \(pixels.count)")
        }
        var created: CVPixelBuffer?
        let attributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as CFDictionary
        let status = CVPixelBufferCreate(kCFAllocatorDefault, side, side, kCVPixelFormatType_OneComponent8, attributes, &created)
        guard status == kCVReturnSuccess, let film = created else {
            throw EdgekitError.wrongCanvas("no memory for a canvas: CVPixelBufferCreate returned \(status)")
        }
        CVPixelBufferLockBaseAddress(film, [])
        defer { CVPixelBufferUnlockBaseAddress(film, []) }
        let base = CVPixelBufferGetBaseAddress(film)!
        let bytesPerRow = CVPixelBufferGetBytesPerRow(film)
        pixels.withUnsafeBytes { source in
            for row in 0..<side {
                memcpy(base + row * bytesPerRow, source.baseAddress! + row * side, side)
            }
        }
        return film
    }
}
