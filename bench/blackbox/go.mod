module smtpprobe.dev/bench-blackbox

go 1.24.0

require github.com/prometheus/blackbox_exporter v0.28.0
