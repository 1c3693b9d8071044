package objects

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// workload checks the pods of a workload, and what they refer to.
func (c *checker) workload(w Workload) {
	c.labels(w.ID, w.Pod.Labels)
	if w.Selector != nil {
		s, err := metav1.LabelSelectorAsSelector(w.Selector)
		if err != nil || s.Empty() || !s.Matches(labels.Set(w.Pod.Labels)) {
			c.errorf(w.ID, "selector %v does not match its pods' labels %v", w.Selector, w.Pod.Labels)
		}
		if found := c.selected(w.ID, w.Selector); len(found) > 1 {
			c.errorf(w.ID, "selector matches pods of %s, too", otherThan(found, w.ID))
		}
	}
	if w.Kind == "StatefulSet" {
		c.governor(w)
	}
	spec := &w.Pod.Spec
	if name := spec.ServiceAccountName; name != "" && name != "default" {
		c.refers(w.ID, "serviceAccountName", "ServiceAccount", name)
	}
	for _, s := range spec.ImagePullSecrets {
		c.refers(w.ID, "imagePullSecrets", "Secret", s.Name)
	}
	for _, spread := range spec.TopologySpreadConstraints {
		if found := c.selected(w.ID, spread.LabelSelector); len(found) != 1 || found[0].ID != w.ID {
			c.errorf(w.ID, "topologySpreadConstraints of %s do not count its own pods", spread.TopologyKey)
		}
	}
	volumes := c.volumes(w)
	names, ports := map[string]bool{}, map[string]bool{}
	for _, container := range w.Containers() {
		if names[container.Name] {
			c.errorf(w.ID, "container %s occurs twice", container.Name)
		}
		names[container.Name] = true
		for _, p := range container.Ports {
			if p.Name != "" && ports[p.Name] {
				c.errorf(w.ID, "port name %s occurs twice", p.Name)
			}
			ports[p.Name] = true
			for _, fault := range validation.IsValidPortName(p.Name) {
				c.errorf(w.ID, "port %s: %s", p.Name, fault)
			}
		}
		c.container(w, container, volumes)
	}
	for name, used := range volumes {
		if !used {
			c.errorf(w.ID, "volume %s is mounted nowhere", name)
		}
	}
}

func otherThan(found []Workload, id ID) ID {
	for _, w := range found {
		if w.ID != id {
			return w.ID
		}
	}
	return found[1].ID
}

// governor checks the service that gives the pods of a StatefulSet their host names.
func (c *checker) governor(w Workload) {
	s, ok := c.ids[ID{"Service", w.Namespace, w.ServiceName}].(*corev1.Service)
	switch {
	case !ok:
		c.errorf(w.ID, "serviceName %q is not a Service, so its pods have no host names", w.ServiceName)
	case s.Spec.ClusterIP != corev1.ClusterIPNone:
		c.errorf(w.ID, "Service %s is not headless, so its pods have no host names", w.ServiceName)
	case !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.Pod.Labels)):
		c.errorf(w.ID, "Service %s does not select its pods", w.ServiceName)
	}
}

// volumes returns the names of the volumes of a pod, to be marked by who mounts them.
func (c *checker) volumes(w Workload) map[string]bool {
	names := map[string]bool{}
	for _, claim := range w.Claims {
		names[claim.Name] = false
	}
	for _, v := range w.Pod.Spec.Volumes {
		if _, twice := names[v.Name]; twice {
			c.errorf(w.ID, "volume %s occurs twice", v.Name)
		}
		names[v.Name] = false
		switch {
		case v.ConfigMap != nil && !isTrue(v.ConfigMap.Optional):
			c.refers(w.ID, "volume "+v.Name, "ConfigMap", v.ConfigMap.Name)
		case v.Secret != nil && !isTrue(v.Secret.Optional):
			c.refers(w.ID, "volume "+v.Name, "Secret", v.Secret.SecretName)
		case v.PersistentVolumeClaim != nil:
			c.refers(w.ID, "volume "+v.Name, "PersistentVolumeClaim", v.PersistentVolumeClaim.ClaimName)
		}
	}
	return names
}

func isTrue(b *bool) bool { return b != nil && *b }

func (c *checker) container(w Workload, container corev1.Container, volumes map[string]bool) {
	paths := map[string]bool{}
	for _, m := range container.VolumeMounts {
		if _, ok := volumes[m.Name]; !ok {
			c.errorf(w.ID, "container %s mounts %s, which is no volume", container.Name, m.Name)
		}
		if paths[m.MountPath] {
			c.errorf(w.ID, "container %s mounts two volumes at %s", container.Name, m.MountPath)
		}
		volumes[m.Name], paths[m.MountPath] = true, true
	}
	for _, e := range container.Env {
		if from := e.ValueFrom; from != nil && from.SecretKeyRef != nil && !isTrue(from.SecretKeyRef.Optional) {
			c.refers(w.ID, "env "+e.Name, "Secret", from.SecretKeyRef.Name)
		} else if from != nil && from.ConfigMapKeyRef != nil && !isTrue(from.ConfigMapKeyRef.Optional) {
			c.refers(w.ID, "env "+e.Name, "ConfigMap", from.ConfigMapKeyRef.Name)
		}
	}
	for _, e := range container.EnvFrom {
		if e.SecretRef != nil && !isTrue(e.SecretRef.Optional) {
			c.refers(w.ID, "envFrom", "Secret", e.SecretRef.Name)
		} else if e.ConfigMapRef != nil && !isTrue(e.ConfigMapRef.Optional) {
			c.refers(w.ID, "envFrom", "ConfigMap", e.ConfigMapRef.Name)
		}
	}
	probes := map[string]*corev1.Probe{"livenessProbe": container.LivenessProbe, "readinessProbe": container.ReadinessProbe, "startupProbe": container.StartupProbe}
	for name, p := range probes {
		if p != nil {
			c.probe(w, container, name, p)
		}
	}
	c.arguments(w, container)
}

// probe checks that a probe asks at a port of its own container.
func (c *checker) probe(w Workload, container corev1.Container, name string, p *corev1.Probe) {
	own := Workload{Pod: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{container}}}}
	switch {
	case p.HTTPGet != nil && !own.port(p.HTTPGet.Port.StrVal, p.HTTPGet.Port.IntVal):
		c.errorf(w.ID, "container %s: %s asks at port %s, which it does not have", container.Name, name, p.HTTPGet.Port.String())
	case p.TCPSocket != nil && !own.port(p.TCPSocket.Port.StrVal, p.TCPSocket.Port.IntVal):
		c.errorf(w.ID, "container %s: %s asks at port %s, which it does not have", container.Name, name, p.TCPSocket.Port.String())
	case p.HTTPGet == nil && p.TCPSocket == nil && p.Exec == nil && p.GRPC == nil:
		c.errorf(w.ID, "container %s: %s asks nothing", container.Name, name)
	}
}
