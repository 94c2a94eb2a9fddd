import Foundation
import ImageIO

/// One output of the graph, as the manifest lists it.
struct EdgekitOutput: Decodable {
    /// Largest difference from the golden vectors that is accepted; nil: it is not compared.
    let tolerance: Double?
    /// Whether a film's row counts only where something was to be found on the film.
    let isOfFound: Bool

    enum CodingKeys: String, CodingKey {
        case tolerance
        case isOfFound = "of_found"
    }
}

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

    /// - Parameter read: gives a file of the bundle, its hash checked.
    init(read: (String) throws -> Data) throws {
        let document = try JSONSerialization.jsonObject(with: read("golden/golden.json")) as! [String: Any]
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
    ///   - described: the graph's outputs by name; one without a tolerance is not compared.
    ///   - infer: answers for canvases by view, with the outputs by name.
    func compare(_ described: [String: EdgekitOutput], infer: ([String: [UInt8]]) throws -> [String: [Float]]) throws -> [EdgekitCheck] {
        let tolerances = described.compactMapValues(\.tolerance)
        var errors = tolerances.mapValues { _ in 0.0 }
        for example in cases {
            let answer = try infer(example.canvases)
            let found = example.outputs["found"]!
            for name in tolerances.keys {
                let expected = example.outputs[name]!
                for (index, value) in expected.enumerated() {
                    // Where nothing is on a film, its row is arbitrary.
                    if described[name]!.isOfFound && found[index * found.count / expected.count] == 0 { continue }
                    let error = abs(Double(answer[name]![index]) - value)
                    errors[name] = max(errors[name]!, error.isNaN ? .infinity : error)
                }
            }
        }
        return tolerances.keys.sorted().map { EdgekitCheck(output: $0, error: errors[$0]!, tolerance: tolerances[$0]!) }
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
