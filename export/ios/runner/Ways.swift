import CoreML
import Foundation
import os

/// The ways in which Core ML runs a graph, the fastest first.
public enum EdgekitWay: String, CaseIterable, Codable {
    /// Neural Engine, GPU and CPU, as Core ML divides the graph among them.
    case all
    case cpuAndGPU
    case cpuOnly

    var computeUnits: MLComputeUnits {
        switch self {
        case .all: return .all
        case .cpuAndGPU: return .cpuAndGPU
        case .cpuOnly: return .cpuOnly
        }
    }
}

/// A way that was tried, and why it isn't used.
public struct EdgekitRejection: Codable {
    public let way: EdgekitWay
    public let reason: String
}

/// The way that is used, what it opened, and those before it that are not used.
struct EdgekitChoice<Opened> {
    let way: EdgekitWay
    let opened: Opened
    let rejected: [EdgekitRejection]
}

/// Take the first way that opens and gives the golden answers.
///
/// - Parameters:
///   - ways: the fastest first; at least one.
///   - attempt: opens and checks; throws `EdgekitError.disagrees` when the answers are others.
/// - Throws: `EdgekitError.disagrees` when no way is right; when none even opens, what the first one threw.
func chooseWay<Opened>(_ ways: [EdgekitWay], attempt: (EdgekitWay) throws -> Opened) throws -> EdgekitChoice<Opened> {
    var failures: [Error] = []
    var rejected: [EdgekitRejection] = []
    for way in ways {
        do {
            return EdgekitChoice(way: way, opened: try attempt(way), rejected: rejected)
        } catch {
            let reason = error.localizedDescription
            failures.append(error)
            rejected.append(EdgekitRejection(way: way, reason: reason))
            Logger(subsystem: "edgekit", category: "ways").warning("\(way.rawValue, privacy: .public) is not used: \(reason, privacy: .public)")
        }
    }
    let disagrees = failures.contains { failure in
        if case EdgekitError.disagrees = failure { return true }
        return false
    }
    if !disagrees { throw failures[0] }
    let reasons = rejected.map { "\($0.way.rawValue): \($0.reason)" }.joined(separator: "; ")
    let remedy = "Update the system, or use another device."
    let text = "this device does not answer as the bundle's golden vectors say: \(reasons). \(remedy)"
    throw EdgekitError.disagrees(text, rejected)
}
