import Foundation
import ImageIO

/// How far one output is from the golden vectors, and how far it may be.
public struct EdgekitCheck {
    public let output: String
    public let error: Double
    public let tolerance: Double
    public var passed: Bool { error <= tolerance }

    /// The check in words.
    var description: String { "\(output) is off by \(String(format: "%.2g", error)), accepted \(tolerance)" }
}

/// The bundle's golden vectors: canvases, and the outputs expected of them.
struct EdgekitGolden {
    private struct Case {
        let canvases: [String: [UInt8]]
        let outputs: [String: [Double]]
    }

    private let cases: [Case]
    private let tolerance: [String: Double]

    /// - Parameter read: gives a file of the bundle, its hash checked.
    init(read: (String) throws -> Data) throws {
        let document = try JSONSerialization.jsonObject(with: read("golden/golden.json")) as! [String: Any]
        tolerance = document["tolerance"] as! [String: Double]
        cases = try (document["cases"] as! [[String: Any]]).map { example in
            let films = example["films"] as! [String: String]
            return Case(
                canvases: try films.mapValues { try EdgekitGolden.decodeGray(try read("golden/" + $0), name: $0) },
                outputs: (example["outputs"] as! [String: Any]).mapValues(EdgekitGolden.flatten)
            )
        }
    }

    /// Answer every case, and measure how far the answers are from the expected ones.
    ///
    /// - Parameters:
    ///   - names: the outputs that are compared.
    ///   - boxThreshold: without a construct the best cell is arbitrary, and so is its box: it counts from this score on.
    ///   - infer: answers for the canvases AP and lateral, with the outputs by name.
    func compare(names: [String], boxThreshold: Double, infer: ([UInt8]?, [UInt8]?) throws -> [String: [Float]]) throws -> [EdgekitCheck] {
        var errors = Dictionary(uniqueKeysWithValues: names.map { ($0, 0.0) })
        for example in cases {
            let found = try infer(example.canvases["ap"], example.canvases["lateral"])
            for name in names {
                for (index, value) in example.outputs[name]!.enumerated() {
                    if name == "boxes" && example.outputs["box_scores"]![index / 4] < boxThreshold { continue }
                    let error = abs(Double(found[name]![index]) - value)
                    errors[name] = max(errors[name]!, error.isNaN ? .infinity : error)
                }
            }
        }
        return names.map { EdgekitCheck(output: $0, error: errors[$0]!, tolerance: tolerance[$0]!) }
    }

    /// Gray levels of an 8-bit grayscale PNG as they are stored: drawing it would go through a colour profile.
    private static func decodeGray(_ png: Data, name: String) throws -> [UInt8] {
        guard
            let source = CGImageSourceCreateWithData(png as CFData, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil),
            image.bitsPerPixel == 8,
            let stored = image.dataProvider?.data as Data?
        else {
            throw EdgekitError.damagedBundle("\(name) is not an 8-bit grayscale PNG")
        }
        return (0..<image.height).flatMap { row in [UInt8](stored[row * image.bytesPerRow..<row * image.bytesPerRow + image.width]) }
    }

    private static func flatten(_ value: Any) -> [Double] {
        if let list = value as? [Any] { return list.flatMap(flatten) }
        return [(value as! NSNumber).doubleValue]
    }
}
