package edgekit

import android.util.Log

/** A way that was tried, and why it isn't used. */
class Rejection(val way: Way, val reason: String)

/** What runs the graph here gives other answers than the bundle's golden vectors; [rejected] is every way that was tried. */
class DisagreementException(message: String, val rejected: List<Rejection> = emptyList()) : Exception(message)

/** The way that is used, what it opened, and those before it that are not used. */
class Choice<Opened>(val way: Way, val opened: Opened, val rejected: List<Rejection>)

/**
 * Take the first way that opens and gives the golden answers.
 *
 * @param ways the fastest first
 * @param attempt opens and checks; throws [DisagreementException] when the answers are others, and leaves nothing open then
 * @throws DisagreementException no way is right. When none even opens, what the first one threw
 */
fun <Opened> chooseWay(ways: List<Way>, attempt: (Way) -> Opened): Choice<Opened> {
    val failures = mutableListOf<Exception>()
    val rejected = mutableListOf<Rejection>()
    for (way in ways) {
        try {
            return Choice(way, attempt(way), rejected)
        } catch (error: Exception) {
            failures += error
            rejected += Rejection(way, error.message ?: error.toString())
            Log.w("edgekit", "$way is not used: ${error.message}")
        }
    }
    if (failures.none { it is DisagreementException }) throw failures.first()
    val reasons = rejected.joinToString("; ") { "${it.way}: ${it.reason}" }
    val remedy = "Update ${GraphRuntime.name} and the system, or use another device."
    throw DisagreementException("this device does not answer as the bundle's golden vectors say: $reasons. $remedy", rejected)
}
