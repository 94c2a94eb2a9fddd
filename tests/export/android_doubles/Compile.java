import org.jetbrains.kotlin.cli.common.ExitCode;
import org.jetbrains.kotlin.cli.jvm.K2JVMCompiler;

/** Compiles Kotlin several times in one process, for the compiler takes longer to start than to compile. "--" stands between two commands. */
public class Compile {
    public static void main(String[] words) {
        for (String command : String.join("\n", words).split("\n--\n")) {
            ExitCode code = new K2JVMCompiler().exec(System.err, command.split("\n"));
            if (code != ExitCode.OK) {
                System.exit(1);
            }
        }
    }
}
