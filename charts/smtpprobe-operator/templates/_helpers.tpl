{{- define "smtpprobe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Release "smtpprobe" gives "smtpprobe-operator", "mail-smtpprobe-operator" stays, "x" gives "x-smtpprobe-operator". */}}
{{- define "smtpprobe.fullname" -}}
{{- $name := include "smtpprobe.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else if hasPrefix .Release.Name $name -}}
{{- $name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "smtpprobe.selector" -}}
app.kubernetes.io/name: {{ include "smtpprobe.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "smtpprobe.labels" -}}
{{ include "smtpprobe.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: smtpprobe
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "smtpprobe.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "smtpprobe.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.create is false: name the service account in serviceAccount.name" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* One image: (dict "root" $ "image" .Values.image "value" "image.repository" "target" "operator"). */}}
{{- define "smtpprobe.image" -}}
{{- if not .image.repository -}}
{{- fail (printf "%s is not set, and there is no public image yet. Build and push both images, then set them:\n  docker build --target operator -t REGISTRY/smtpprobe-operator:%s . && docker push REGISTRY/smtpprobe-operator:%s\n  docker build --target probe -t REGISTRY/smtpprobe-probe:%s . && docker push REGISTRY/smtpprobe-probe:%s\n  helm upgrade --install %s … --set image.repository=REGISTRY/smtpprobe-operator,probe.image.repository=REGISTRY/smtpprobe-probe" .value .root.Chart.AppVersion .root.Chart.AppVersion .root.Chart.AppVersion .root.Chart.AppVersion .root.Release.Name) -}}
{{- end -}}
{{- $registry := (.root.Values.global | default dict).imageRegistry -}}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest -}}@{{ .image.digest }}{{- else -}}:{{ .image.tag | default .root.Chart.AppVersion }}{{- end -}}
{{- end -}}

{{- define "smtpprobe.operatorImage" -}}
{{- include "smtpprobe.image" (dict "root" . "image" .Values.image "value" "image.repository") -}}
{{- end -}}

{{- define "smtpprobe.probeImage" -}}
{{- include "smtpprobe.image" (dict "root" . "image" .Values.probe.image "value" "probe.image.repository") -}}
{{- end -}}

{{/* Names of pull secrets, "a,b": (dict "root" $ "own" .Values.imagePullSecrets). Global entries are names or {name: …}. */}}
{{- define "smtpprobe.pullSecrets" -}}
{{- $names := list -}}
{{- range concat ((.root.Values.global | default dict).imagePullSecrets | default list) .own -}}
{{- $names = append $names (kindIs "map" . | ternary (get (kindIs "map" . | ternary . dict) "name") .) -}}
{{- end -}}
{{- $names | uniq | join "," -}}
{{- end -}}

{{/* What the operator may do; the test's table in tests/chart/rbac.txt holds it. */}}
{{- define "smtpprobe.rules" -}}
- apiGroups: [smtpprobe.dev]
  resources: [smtpprobes]
  verbs: [get, list, watch]
- apiGroups: [smtpprobe.dev]
  resources: [smtpprobes/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [create, get, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Why a Job has no pod (quota, admission) is in the Job's events, which its controller writes in the core group.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}
