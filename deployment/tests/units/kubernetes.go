package units

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// pod is what a workload makes of its template.
type pod struct {
	name, namespace, subdomain string
	labels                     map[string]string
	spec                       corev1.PodSpec
	claims                     []string // of the StatefulSet
}

// Objects makes units of Kubernetes objects: each pod of a StatefulSet, and one of each Deployment, StatefulSets first.
// The names of pods and Services are known to the world afterwards.
func (w *World) Objects(objects []runtime.Object) []*Unit {
	w.t.Helper()
	var pods []*pod
	for _, stateful := range []bool{true, false} {
		for _, object := range objects {
			pods = append(pods, podsOf(object, stateful)...)
		}
	}
	for _, p := range pods {
		w.nameOf(p)
	}
	for _, object := range objects {
		if service, ok := object.(*corev1.Service); ok {
			w.service(service, pods)
		}
	}
	var units []*Unit
	for _, p := range pods {
		volumes := w.volumes(p, objects)
		for i := range p.spec.InitContainers {
			u := w.container(p, &p.spec.InitContainers[i], volumes, objects)
			u.Init = true
			units = append(units, u)
		}
		for i := range p.spec.Containers {
			units = append(units, w.container(p, &p.spec.Containers[i], volumes, objects))
		}
	}
	return units
}

func podsOf(object runtime.Object, stateful bool) []*pod {
	switch o := object.(type) {
	case *appsv1.StatefulSet:
		if !stateful {
			return nil
		}
		var pods []*pod
		for n := range *o.Spec.Replicas {
			p := &pod{name: fmt.Sprintf("%s-%d", o.Name, n), namespace: o.Namespace, subdomain: o.Spec.ServiceName, labels: o.Spec.Template.Labels, spec: o.Spec.Template.Spec}
			for _, claim := range o.Spec.VolumeClaimTemplates {
				p.claims = append(p.claims, claim.Name)
			}
			pods = append(pods, p)
		}
		return pods
	case *appsv1.Deployment:
		if stateful {
			return nil
		}
		return []*pod{{name: o.Name + "-0", namespace: o.Namespace, labels: o.Spec.Template.Labels, spec: o.Spec.Template.Spec}}
	}
	return nil
}

// nameOf lets others reach a pod of a StatefulSet.
func (w *World) nameOf(p *pod) {
	if p.subdomain == "" {
		return
	}
	for _, c := range p.spec.Containers {
		for _, port := range c.Ports {
			name := p.name + "." + p.subdomain + "." + p.namespace + ".svc.cluster.local:" + strconv.Itoa(int(port.ContainerPort))
			w.Name(name, w.Addr(p.name, int(port.ContainerPort)))
		}
	}
}

// service lets others reach the first pod that a Service has.
func (w *World) service(s *corev1.Service, pods []*pod) {
	w.t.Helper()
	for _, p := range pods {
		if p.namespace != s.Namespace || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.labels)) {
			continue
		}
		for _, port := range s.Spec.Ports {
			target := portOf(&p.spec, port.TargetPort)
			if target == 0 {
				w.t.Fatalf("service %s has no port %s at pod %s", s.Name, port.TargetPort.String(), p.name)
			}
			for _, host := range []string{s.Name, s.Name + "." + s.Namespace, s.Name + "." + s.Namespace + ".svc.cluster.local"} {
				w.Name(host+":"+strconv.Itoa(int(port.Port)), w.Addr(p.name, target))
			}
		}
		return
	}
	w.t.Fatalf("service %s selects no pod", s.Name)
}

// portOf returns the number of a port of a pod; 0: there is none.
func portOf(spec *corev1.PodSpec, target intstr.IntOrString) int {
	for _, c := range spec.Containers {
		for _, port := range c.Ports {
			if target.Type == intstr.String && port.Name == target.StrVal || target.Type == intstr.Int && port.ContainerPort == target.IntVal {
				return int(port.ContainerPort)
			}
		}
	}
	return 0
}

// volumes makes the directories of a pod by volume. What is in ConfigMaps and Secrets is written there.
func (w *World) volumes(p *pod, objects []runtime.Object) map[string]string {
	w.t.Helper()
	dirs := map[string]string{}
	for _, name := range p.claims {
		dirs[name] = w.t.TempDir()
	}
	for _, v := range p.spec.Volumes {
		dirs[v.Name] = w.claim(v)
		files := map[string][]byte{}
		switch {
		case v.ConfigMap != nil:
			files = dataOf(objects, p.namespace, v.ConfigMap.Name, false)
		case v.Secret != nil:
			files = dataOf(objects, p.namespace, v.Secret.SecretName, true)
		}
		optional := v.ConfigMap != nil && v.ConfigMap.Optional != nil && *v.ConfigMap.Optional
		if files == nil && !optional {
			w.t.Fatalf("volume %s of pod %s: there is no such ConfigMap or Secret", v.Name, p.name)
		}
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(dirs[v.Name], name), data, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	return dirs
}

// claim returns a directory for a volume: the same for all that mount the same claim.
func (w *World) claim(v corev1.Volume) string {
	if v.PersistentVolumeClaim == nil {
		return w.t.TempDir()
	}
	name := v.PersistentVolumeClaim.ClaimName
	if w.claims[name] == "" {
		w.claims[name] = w.t.TempDir()
	}
	return w.claims[name]
}

func dataOf(objects []runtime.Object, namespace, name string, secret bool) map[string][]byte {
	for _, object := range objects {
		switch o := object.(type) {
		case *corev1.ConfigMap:
			if !secret && o.Name == name && o.Namespace == namespace {
				files := map[string][]byte{}
				for file, text := range o.Data {
					files[file] = []byte(text)
				}
				return files
			}
		case *corev1.Secret:
			if secret && o.Name == name && o.Namespace == namespace {
				return o.Data
			}
		}
	}
	return nil
}

// container makes a unit.
func (w *World) container(p *pod, c *corev1.Container, volumes map[string]string, objects []runtime.Object) *Unit {
	w.t.Helper()
	u := &Unit{
		Name: p.name + "/" + c.Name, Pod: p.name, Image: c.Image, Command: c.Command, Args: c.Args,
		Env: map[string]string{}, Mounts: map[string]string{}, Grace: 30 * time.Second,
	}
	if p.spec.TerminationGracePeriodSeconds != nil {
		u.Grace = time.Duration(*p.spec.TerminationGracePeriodSeconds) * time.Second
	}
	for _, e := range c.Env {
		if value, ok := valueOf(p, e, objects); ok {
			u.Env[e.Name] = u.expand(value)
		}
	}
	for _, m := range c.VolumeMounts {
		if volumes[m.Name] == "" {
			w.t.Fatalf("%s mounts %s, which is no volume", u.Name, m.Name)
		}
		u.Mounts[m.MountPath] = filepath.Join(volumes[m.Name], m.SubPath)
	}
	for _, port := range c.Ports {
		u.Ports = append(u.Ports, int(port.ContainerPort))
	}
	if probe := c.ReadinessProbe; probe != nil && probe.HTTPGet != nil {
		scheme := strings.ToLower(string(probe.HTTPGet.Scheme))
		u.Ready = Probe{Scheme: max(scheme, "http"), Port: portOf(&p.spec, probe.HTTPGet.Port), Path: probe.HTTPGet.Path}
	}
	return u
}

// valueOf returns the value of a variable, if it has one.
func valueOf(p *pod, e corev1.EnvVar, objects []runtime.Object) (string, bool) {
	switch from := e.ValueFrom; {
	case from == nil:
		return e.Value, true
	case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
		return p.name, true
	case from.ConfigMapKeyRef != nil:
		value, ok := dataOf(objects, p.namespace, from.ConfigMapKeyRef.Name, false)[from.ConfigMapKeyRef.Key]
		return string(value), ok
	}
	return "", false
}
