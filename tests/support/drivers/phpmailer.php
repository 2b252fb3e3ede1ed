<?php
// Sends with each printed mail.php. Lines of stdin: name, file, recipient.
require '/usr/share/php/libphp-phpmailer/autoload.php';

while (($line = fgets(STDIN)) !== false) {
    [$name, $file, $to] = explode("\t", rtrim($line, "\n"));
    $outcome = 'sent';
    try {
        eval(file_get_contents($file));
        $mail->addAddress($to);
        $mail->Subject = 'hi';
        $mail->Body = 'hi';
        $mail->send();
    } catch (Throwable $error) {
        $outcome = preg_replace('/\s+/', ' ', $error->getMessage());
    }
    echo "RESULT\t$name\t$outcome\n";
}
