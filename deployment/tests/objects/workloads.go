package objects

import (
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Workload is an object that makes pods.
type Workload struct {
	ID
	// Selector is nil where Kubernetes makes it up: for jobs.
	Selector *metav1.LabelSelector
	// Replicas is nil where the object does not tell, which stands for 1 or is left to an autoscaler.
	Replicas *int32
	Pod      corev1.PodTemplateSpec
	// ServiceName and Claims are those of a StatefulSet.
	ServiceName string
	Claims      []corev1.PersistentVolumeClaim
}

// Workloads returns what makes pods, in the order of all.
func Workloads(all []runtime.Object) []Workload {
	var found []Workload
	for _, object := range all {
		w := Workload{ID: IDOf(object)}
		switch o := object.(type) {
		case *appsv1.Deployment:
			w.Selector, w.Replicas, w.Pod = o.Spec.Selector, o.Spec.Replicas, o.Spec.Template
		case *appsv1.StatefulSet:
			w.Selector, w.Replicas, w.Pod = o.Spec.Selector, o.Spec.Replicas, o.Spec.Template
			w.ServiceName, w.Claims = o.Spec.ServiceName, o.Spec.VolumeClaimTemplates
		case *appsv1.DaemonSet:
			w.Selector, w.Pod = o.Spec.Selector, o.Spec.Template
		case *batchv1.Job:
			w.Selector, w.Pod = o.Spec.Selector, o.Spec.Template
		case *batchv1.CronJob:
			w.Pod = o.Spec.JobTemplate.Spec.Template
		case *corev1.Pod:
			w.Pod = corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
		default:
			continue
		}
		found = append(found, w)
	}
	return found
}

// PodCount is how many pods a workload has at first.
func (w *Workload) PodCount() int32 {
	if w.Replicas == nil {
		return 1
	}
	return *w.Replicas
}

// Containers returns the containers of a pod, those that run before the others first.
func (w *Workload) Containers() []corev1.Container {
	return append(append([]corev1.Container(nil), w.Pod.Spec.InitContainers...), w.Pod.Spec.Containers...)
}

// port finds a port of the containers that serve, by name where name is set. Containers which restart and began before the others serve, too.
func (w *Workload) port(name string, number int32) bool {
	for _, c := range w.Containers() {
		for _, p := range c.Ports {
			if name != "" && p.Name == name || name == "" && p.ContainerPort == number {
				return true
			}
		}
	}
	return false
}
