{{- define "pipeline.labels" -}}
app.kubernetes.io/name: pipeline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
