{{/*
Failing now, and often enough. A probe that runs once has no interval, and its one failure counts. The reason is there
while a probe is not ready and not suspended.
*/}}
{{- define "smtpprobe.failing" -}}
and on (namespace, name) (
  smtpprobe_consecutive_failures >= {{ . }}
  or
  (smtpprobe_consecutive_failures >= 1 unless on (namespace, name) smtpprobe_interval_seconds)
)
and on (namespace, name) smtpprobe_failure_reason
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
{{- end -}}
{{- end -}}

{{- define "smtpprobe.alerts" -}}
{{- $rules := .Values.prometheusRule.rules -}}
{{- $probe := "SmtpProbe {{ $labels.namespace }}/{{ $labels.name }}" -}}
{{- $reason := `{{ with printf "smtpprobe_failure_reason{namespace=%q,name=%q}" $labels.namespace $labels.name | query }} ({{ . | first | label "reason" }}){{ end }}` -}}
{{- $field := "kubectl -n {{ $labels.namespace }} get smtpprobe {{ $labels.name }} -o jsonpath='{.status.%s}'" -}}
{{- $advice := printf "Who must act, and what to do: %s. The whole session: kubectl -n {{ $labels.namespace }} describe smtpprobe {{ $labels.name }}." (printf $field "advice") -}}

{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeAuthFailing"
  "expr" (printf "smtpprobe_stage_success{stage=\"auth\"} == 0\n%s" (include "smtpprobe.failing" $rules.SmtpProbeAuthFailing.failures))
  "summary" (printf "%s: the mail server refuses the login%s" $probe $reason)
  "description" (printf "What uses this Secret cannot log in. Logins may be paused by now, so that the account is not locked; this alert stays until one succeeds. %s A mended Secret is tried at the next run." $advice)) }}

{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeEgressNotAuthorized"
  "expr" "smtpprobe_egress_authorized == 0\nand on (namespace, name) smtpprobe_failure_reason"
  "summary" (printf "%s: the mail server takes no mail from this egress address" $probe)
  "description" (printf "%s The addresses that the mail admin must register: %s" $advice (printf $field "egress.addresses"))) }}

{{- /* What a narrower alert says is not said twice. */ -}}
{{- $failing := printf "smtpprobe_success == 0\n%s" (include "smtpprobe.failing" $rules.SmtpProbeFailing.failures) -}}
{{- if $rules.SmtpProbeAuthFailing.enabled -}}
{{- $failing = printf "%s\nunless on (namespace, name) smtpprobe_stage_success{stage=\"auth\"} == 0" $failing -}}
{{- end -}}
{{- if $rules.SmtpProbeEgressNotAuthorized.enabled -}}
{{- $failing = printf "%s\nunless on (namespace, name) smtpprobe_egress_authorized == 0" $failing -}}
{{- end }}
{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeFailing" "expr" $failing
  "summary" (printf "%s: mail cannot be sent from here%s" $probe $reason) "description" $advice) }}

{{- /* The time when an answer is due starts anew with the operator, so that a restart is no staleness. A probe that runs once has no interval. */ -}}
{{- $overdue := "time() - smtpprobe_next_run_timestamp_seconds" -}}
{{- $grace := printf "%v * smtpprobe_interval_seconds + 300" (subf $rules.SmtpProbeStale.intervals 1) -}}
{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeStale"
  "expr" (printf "%s > (%s)\nor\n(%s > 900 unless smtpprobe_interval_seconds)" $overdue $grace $overdue)
  "summary" (printf "%s: an answer is overdue by {{ $value | humanizeDuration }}%s" $probe $reason)
  "description" "What is shown about this probe is old. Its pods and why they do not run: kubectl -n {{ $labels.namespace }} describe smtpprobe {{ $labels.name }}; kubectl -n {{ $labels.namespace }} get jobs,pods -l app.kubernetes.io/name=smtpprobe-probe. The operator: kubectl get pods -A -l app.kubernetes.io/name=smtpprobe-operator, and its log.") }}

{{- include "smtpprobe.alert" (dict "root" . "alert" "SmtpProbeOperatorDown"
  "expr" "absent(smtpprobe_operator_build_info)"
  "summary" "The SmtpProbe operator gives no metrics"
  "description" (printf "No other SmtpProbe alert can fire until it does. kubectl -n %s get pods -l app.kubernetes.io/instance=%s, and its log." .Release.Namespace .Release.Name)) }}
{{- end -}}
