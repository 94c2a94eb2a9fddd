import Foundation

/// What was found out about a bundle, kept in the app's defaults so that it is found out once.
struct EdgekitMemory {
    /// What a check of the golden vectors found: the way that passed, and those before it that did not.
    struct Found: Codable {
        /// All that the check holds for.
        let identity: String
        let way: EdgekitWay
        let rejected: [EdgekitRejection]
    }

    let defaults: UserDefaults
    let key: String
    let identity: String

    /// What was found; nil when nothing was, when it was for something else, or when it can't be read.
    func recall() -> Found? {
        guard
            let stored = defaults.data(forKey: key),
            let found = try? JSONDecoder().decode(Found.self, from: stored),
            found.identity == identity
        else { return nil }
        return found
    }

    func remember(way: EdgekitWay, rejected: [EdgekitRejection]) throws {
        defaults.set(try JSONEncoder().encode(Found(identity: identity, way: way, rejected: rejected)), forKey: key)
    }

    func forget() {
        defaults.removeObject(forKey: key)
    }

    /// The kind of device ("iPhone15,2") and the build of its system, to which Core ML belongs.
    static func describeDevice() -> String {
        var system = utsname()
        uname(&system)
        let machine = withUnsafeBytes(of: &system.machine) { letters in String(decoding: letters.prefix { $0 != 0 }, as: UTF8.self) }
        return machine + " " + ProcessInfo.processInfo.operatingSystemVersionString
    }
}
