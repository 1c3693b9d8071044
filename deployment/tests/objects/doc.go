// Package objects reads Kubernetes manifests as strictly as an API server does: every field must be one that the
// type of the object has. It is for the tests of manifests and of the Helm chart.
package objects
