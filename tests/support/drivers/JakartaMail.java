import jakarta.mail.Message;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.MimeMessage;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.util.Properties;

/** Sends with each printed mail.properties. Lines of stdin: name, file, recipient. */
public class JakartaMail {
    public static void main(String[] args) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            String[] fields = line.split("\t");
            String outcome = "sent";
            try {
                send(fields[1], fields[2]);
            } catch (Exception error) {
                outcome = error.toString().replaceAll("\\s+", " ");
            }
            System.out.println("RESULT\t" + fields[0] + "\t" + outcome);
        }
    }

    static void send(String file, String recipient) throws Exception {
        Properties properties = new Properties();
        try (InputStream in = new FileInputStream(file)) {
            properties.load(in);
        }
        MimeMessage message = new MimeMessage(Session.getInstance(properties));
        message.setFrom("header@shop.example.com");
        message.setRecipients(Message.RecipientType.TO, recipient);
        message.setSubject("hi");
        message.setText("hi");
        if (properties.getProperty("mail.smtp.user") == null) {
            Transport.send(message);
        } else {
            Transport.send(message, properties.getProperty("mail.smtp.user"), System.getenv("SMTP_PASSWORD"));
        }
    }
}
