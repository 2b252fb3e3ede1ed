import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.builder.SpringApplicationBuilder;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Configuration;
import org.springframework.mail.SimpleMailMessage;
import org.springframework.mail.javamail.JavaMailSender;

/** Starts an application with each printed application.properties and sends. Lines of stdin: name, file, recipient. */
@EnableAutoConfiguration
@Configuration(proxyBeanMethods = false)
public class SpringBoot {
    public static void main(String[] args) throws Exception {
        System.setProperty("logging.level.root", "off");
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

    static void send(String file, String recipient) {
        SpringApplicationBuilder application = new SpringApplicationBuilder(SpringBoot.class);
        String[] arguments = {"--spring.config.location=file:" + file, "--spring.main.banner-mode=off"};
        try (ConfigurableApplicationContext context = application.run(arguments)) {
            SimpleMailMessage message = new SimpleMailMessage();
            message.setFrom("header@shop.example.com");
            message.setTo(recipient);
            message.setSubject("hi");
            message.setText("hi");
            context.getBean(JavaMailSender.class).send(message);
        }
    }
}
