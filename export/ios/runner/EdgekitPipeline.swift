import CoreML
import CoreVideo
import CryptoKit
import Foundation
import ImageIO

public enum EdgekitError: Error {
    /// A file of the bundle is not the one that its manifest describes.
    case damagedBundle(String)
    /// A canvas does not have side * side bytes.
    case wrongCanvas(String)
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

/// How far one output is from the golden vectors, and how far it may be.
public struct EdgekitCheck {
    public let output: String
    public let error: Double
    public let tolerance: Double
    public var passed: Bool { error <= tolerance }
}

/// Runs an edgekit bundle: two canvases in, the whole answer out. The graph does the work; this class checks the hashes of what it loads
/// and names the tensors.
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
        let brands: [String]
        let canvas: Canvas
        let thresholds: Thresholds
        let files: [String: File]
    }

    private let bundle: URL
    private let manifest: Manifest
    private let model: MLModel

    /// Brands in the order of `probabilities`.
    public var brands: [String] { manifest.brands }
    /// Side S of the canvas in pixels.
    public var side: Int { manifest.canvas.side }

    /// Verify, compile and load a bundle.
    ///
    /// - Parameter bundle: the bundle's folder.
    public init(bundle: URL, computeUnits: MLComputeUnits = .all) async throws {
        self.bundle = bundle
        let manifest = try JSONDecoder().decode(Manifest.self, from: Data(contentsOf: bundle.appendingPathComponent("manifest.json")))
        self.manifest = manifest
        let package = manifest.model
        for name in manifest.files.keys where name == package || name.hasPrefix(package + "/") {
            _ = try Self.readVerified(name, bundle: bundle, manifest: manifest)
        }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = computeUnits
        let compiled = try await MLModel.compileModel(at: bundle.appendingPathComponent(package))
        model = try MLModel(contentsOf: compiled, configuration: configuration)
    }

    /// Answer for one patient. A canvas is S * S gray levels, row by row, made from a film as edgekit's docs/canvas.md says; nil when the
    /// film is missing.
    public func infer(ap: [UInt8]?, lateral: [UInt8]?) throws -> EdgekitAnswer {
        let present = try MLMultiArray(shape: [2], dataType: .float32)
        present[0] = ap == nil ? 0 : 1
        present[1] = lateral == nil ? 0 : 1
        let inputs = try MLDictionaryFeatureProvider(dictionary: [
            "ap": MLFeatureValue(pixelBuffer: makeFilm(ap)),
            "lateral": MLFeatureValue(pixelBuffer: makeFilm(lateral)),
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

    /// Run the bundle's golden vectors; the device is fit for the bundle when every check passed.
    public func selfTest() throws -> [EdgekitCheck] {
        let golden = try JSONSerialization.jsonObject(with: read("golden/golden.json")) as! [String: Any]
        var errors = Dictionary(uniqueKeysWithValues: Self.outputs.map { ($0, 0.0) })
        for example in golden["cases"] as! [[String: Any]] {
            let films = example["films"] as! [String: String]
            let canvases = try films.mapValues { try readCanvas("golden/" + $0) }
            let found = try infer(ap: canvases["ap"], lateral: canvases["lateral"]).outputs
            let expected = (example["outputs"] as! [String: Any]).mapValues(flatten)
            for name in Self.outputs {
                for (index, value) in expected[name]!.enumerated() {
                    // Without a construct the best cell is arbitrary, and so is its box.
                    if name == "boxes" && expected["box_scores"]![index / 4] < manifest.thresholds.box { continue }
                    let error = abs(Double(found[name]![index]) - value)
                    errors[name] = max(errors[name]!, error.isNaN ? .infinity : error)
                }
            }
        }
        let tolerance = golden["tolerance"] as! [String: Double]
        return Self.outputs.map { EdgekitCheck(output: $0, error: errors[$0]!, tolerance: tolerance[$0]!) }
    }

    private func makeFilm(_ canvas: [UInt8]?) throws -> CVPixelBuffer {
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

    /// Gray levels of an 8-bit grayscale PNG as they are stored: drawing it would go through a colour profile.
    private func readCanvas(_ name: String) throws -> [UInt8] {
        guard
            let source = CGImageSourceCreateWithData(try read(name) as CFData, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil),
            image.bitsPerPixel == 8,
            let stored = image.dataProvider?.data as Data?
        else {
            throw EdgekitError.damagedBundle("\(name) is not an 8-bit grayscale PNG")
        }
        return (0..<image.height).flatMap { row in [UInt8](stored[row * image.bytesPerRow..<row * image.bytesPerRow + image.width]) }
    }

    private func read(_ name: String) throws -> Data {
        try Self.readVerified(name, bundle: bundle, manifest: manifest)
    }

    private static func readVerified(_ name: String, bundle: URL, manifest: Manifest) throws -> Data {
        let content = try Data(contentsOf: bundle.appendingPathComponent(name))
        let digest = SHA256.hash(data: content).map { String(format: "%02x", $0) }.joined()
        guard digest == manifest.files[name]?.sha256 else {
            throw EdgekitError.damagedBundle("\(name) was changed: its sha256 is not the one in the manifest")
        }
        return content
    }

    private func flatten(_ value: Any) -> [Double] {
        if let list = value as? [Any] { return list.flatMap(flatten) }
        return [(value as! NSNumber).doubleValue]
    }
}
