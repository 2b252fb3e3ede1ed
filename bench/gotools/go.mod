module smtpprobe.dev/bench

go 1.24
