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

/// Runs an edgekit bundle: one canvas a view in, the whole answer out. The graph does the work; this class checks the hashes of what it reads,
/// checks this device with the golden vectors, and names the tensors as the manifest lists them.
public final class EdgekitPipeline {
    /// Words for the values 0 to 4 of the graph's `decision`: for programs. People are told "no \(found) found".
    public static let decisions = ["identified", "ambiguous", "unfamiliar", "no construct found", "films swapped"]
    /// What tells the graph which films are given; its other inputs are the films.
    private static let present = "present"

    private struct Manifest: Decodable {
        struct File: Decodable { let sha256: String }
        struct Canvas: Decodable { let side: Int }
        struct Task: Decodable {
            let question: String
            let found: String
            let told: String
            let views: [String]
            let intendedUse: String

            enum CodingKeys: String, CodingKey {
                case question, found, told, views
                case intendedUse = "intended_use"
            }
        }
        struct Tensors: Decodable { let outputs: [String: EdgekitOutput] }
        let model: String
        let modelHash: String
        let ownHash: String
        let brands: [String]
        let task: Task
        let canvas: Canvas
        let tensors: Tensors
        let files: [String: File]

        enum CodingKeys: String, CodingKey {
            case model, brands, task, canvas, tensors, files
            case modelHash = "model_sha256"
            case ownHash = "manifest_sha256"
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
    /// Names of the films, in the order of `present`, `found` and `boxes`.
    public var views: [String] { manifest.task.views }
    /// What is asked of a patient's films.
    public var question: String { manifest.task.question }
    /// The word for what is looked for on a film.
    public var found: String { manifest.task.found }
    /// The word for what is answered.
    public var told: String { manifest.task.told }
    /// What an answer may be used for: shown wherever one is.
    public var intendedUse: String { manifest.task.intendedUse }
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
        let manifest = try Self.readManifest(bundle: bundle)
        let package = manifest.model
        for name in manifest.files.keys where name == package || name.hasPrefix(package + "/") {
            _ = try Self.readVerified(name, bundle: bundle, manifest: manifest)
        }
        // The manifest's hash stands for all that the bundle is.
        let identity = ([manifest.ownHash, EdgekitMemory.describeDevice()] + ways.map(\.rawValue)).joined(separator: "\n")
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

    /// Answer for one patient.
    ///
    /// - Parameter films: the canvas by view, of those given: S * S gray levels, row by row, made from a film as edgekit's docs/canvas.md says.
    /// - Throws: `EdgekitError.wrongCanvas` when a canvas has another size, or its view is none of `views`.
    public func infer(_ films: [String: [UInt8]]) throws -> EdgekitAnswer {
        let outputs = try Self.run(model, manifest, films)
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
        try golden.compare(manifest.tensors.outputs) { films in try run(model, manifest, films) }
    }

    private static func run(_ model: MLModel, _ manifest: Manifest, _ films: [String: [UInt8]]) throws -> [String: [Float]] {
        let views = manifest.task.views
        if let unknown = films.keys.first(where: { !views.contains($0) }) {
            throw EdgekitError.wrongCanvas("\(unknown) is no view of this bundle, which has \(views.joined(separator: ", "))")
        }
        let given = try MLMultiArray(shape: [NSNumber(value: views.count)], dataType: .float32)
        var inputs = [present: MLFeatureValue(multiArray: given)]
        for (place, view) in views.enumerated() {
            given[place] = films[view] == nil ? 0 : 1
            inputs[view] = MLFeatureValue(pixelBuffer: try makeFilm(films[view], side: manifest.canvas.side))
        }
        let result = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: inputs))
        var outputs: [String: [Float]] = [:]
        for name in manifest.tensors.outputs.keys {
            guard let tensor = result.featureValue(for: name)?.multiArrayValue else {
                throw EdgekitError.damagedBundle("the model has no output \(name)")
            }
            outputs[name] = MLShapedArray<Float>(converting: tensor).scalars  // follows the strides, which may be padded
        }
        return outputs
    }

    /// Read the manifest, whose last entry is the hash of all that stands before it.
    private static func readManifest(bundle: URL) throws -> Manifest {
        let content = try Data(contentsOf: bundle.appendingPathComponent("manifest.json"))
        let seal = { (digest: String) in Data(",\n  \"manifest_sha256\": \"\(digest)\"\n}\n".utf8) }
        let body = content.dropLast(seal("").count + 64)
        guard content.suffix(from: body.endIndex) == seal(hash(body + Data("\n}\n".utf8))) else {
            throw EdgekitError.damagedBundle("manifest.json was changed: its sha256 is not the one it states")
        }
        return try JSONDecoder().decode(Manifest.self, from: content)
    }

    private static func hash(_ content: Data) -> String {
        SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
    }

    private static func readVerified(_ name: String, bundle: URL, manifest: Manifest) throws -> Data {
        let content = try Data(contentsOf: bundle.appendingPathComponent(name))
        guard hash(content) == manifest.files[name]?.sha256 else {
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
