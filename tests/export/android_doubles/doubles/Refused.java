package doubles;

/** The other end of the pipe said no. */
public class Refused extends Exception {
    Refused(String message) {
        super(message);
    }
}
