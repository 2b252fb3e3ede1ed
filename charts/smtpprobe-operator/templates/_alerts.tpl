{{/* Failed often enough: a probe that runs once has no interval, and its one failure counts. */}}
{{- define "smtpprobe.failedOften" -}}
(
  smtpprobe_consecutive_failures >= {{ . }}
  or
  (smtpprobe_consecutive_failures >= 1 unless on (namespace, name) smtpprobe_interval_seconds)
)
{{- end -}}

{{/* One alert's frame: (dict "root" $ "alert" NAME "expr" … "summary" … "description" …). Nothing where it is switched off. */}}
{{- define "smtpprobe.alert" -}}
{{- $rule := get .root.Values.prometheusRule.rules .alert -}}
{{- if $rule.enabled }}
- alert: {{ .alert }}
  expr: |
    {{- .expr | trim | nindent 4 }}
  for: {{ $rule.for }}
  labels:
    severity: {{ $rule.severity }}
    {{- with .root.Values.prometheusRule.additionalRuleLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    summary: {{ .summary | quote }}
    description: {{ .description | quote }}
    {{- with .root.Values.prometheusRule.runbookUrl }}
    runbook_url: {{ printf "%s/%s" (trimSuffix "/" .) $.alert | quote }}
    {{- end }}
{{ end -}}
{{- end -}}

{{- define "smtpprobe.alerts" -}}
{{- $rules := .Values.prometheusRule.rules -}}
{{- $reason := `{{ with printf "smtpprobe_failure_reason{namespace=%q,name=%q}" $labels.namespace $labels.name | query }}{{ . | first | label "reason" }}{{ end }}` -}}
{{- $advice := `Who must act, and what to do: kubectl -n {{ $labels.namespace }} get smtpprobe {{ $labels.name }} -o jsonpath='{.status.advice}'. The whole session: kubectl -n {{ $labels.namespace }} describe smtpprobe {{ $labels.name }}` -}}

{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeAuthFailing"
  "expr" (printf "smtpprobe_stage_success{stage=\"auth\"} == 0\nand on (namespace, name) %s" (include "smtpprobe.failedOften" $rules.SmtpProbeAuthFailing.failures))
  "summary" (printf "SmtpProbe {{ $labels.namespace }}/{{ $labels.name }}: the mail server refuses the login (%s)" $reason)
  "description" (printf "The application that uses this Secret cannot log in. Logins may be paused by now so that the account is not locked; the alert stays until one succeeds. %s. After the Secret is mended the next run tries it by itself." $advice)) }}

{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeEgressNotAuthorized"
  "expr" "smtpprobe_egress_authorized == 0"
  "summary" "SmtpProbe {{ $labels.namespace }}/{{ $labels.name }}: the mail server does not take mail from this egress address"
  "description" (printf "%s. The addresses that were seen, for the mail admin: kubectl -n {{ $labels.namespace }} get smtpprobe {{ $labels.name }} -o jsonpath='{.status.egress.addresses}'" $advice)) }}

{{- $failing := printf "smtpprobe_success == 0\nand on (namespace, name) %s" (include "smtpprobe.failedOften" $rules.SmtpProbeFailing.failures) -}}
{{- if $rules.SmtpProbeAuthFailing.enabled -}}
{{- $failing = printf "%s\nunless on (namespace, name) smtpprobe_stage_success{stage=\"auth\"} == 0" $failing -}}
{{- end -}}
{{- if $rules.SmtpProbeEgressNotAuthorized.enabled -}}
{{- $failing = printf "%s\nunless on (namespace, name) smtpprobe_egress_authorized == 0" $failing -}}
{{- end }}
{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeFailing" "expr" $failing
  "summary" (printf "SmtpProbe {{ $labels.namespace }}/{{ $labels.name }}: mail cannot be sent from here (%s)" $reason)
  "description" (printf "%s" $advice)) }}

{{- /* Age since the last result or since the operator started, whichever is later: a restart is no staleness. */ -}}
{{- $limit := printf "%v * smtpprobe_interval_seconds + 300" $rules.SmtpProbeStale.intervals -}}
{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeStale"
  "expr" (printf "time() - smtpprobe_last_run_timestamp_seconds > on (namespace, name) (%s)\nand on (namespace, name)\n(%s) < on (job, instance) group_left () (time() - process_start_time_seconds)" $limit $limit)
  "summary" "SmtpProbe {{ $labels.namespace }}/{{ $labels.name }}: no result for {{ $value | humanizeDuration }}"
  "description" "What is shown about this probe is old. Look at the operator: kubectl get pods -A -l app.kubernetes.io/name=smtpprobe-operator, its log, and the Jobs in {{ $labels.namespace }}: kubectl -n {{ $labels.namespace }} get jobs,pods -l smtpprobe.dev/probe={{ $labels.name }}") }}

{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeOperatorDown"
  "expr" (printf "absent(smtpprobe_operator_runs_in_flight)")
  "summary" "The SmtpProbe operator gives no metrics"
  "description" (printf "No other SmtpProbe alert can fire. kubectl -n %s get pods -l app.kubernetes.io/instance=%s" .Release.Namespace .Release.Name)) }}
{{- end -}}
