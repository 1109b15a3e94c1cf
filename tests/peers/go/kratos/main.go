// Registers and discovers with the instances of kratos: the type in the library is the value in etcd.
//
// The library's etcd registry is not imported: the few requests that it makes are repeated here.
package main

import (
	"context"
	"encoding/json"
	"time"

	"etcd-blocking/tests/peers/go/line"

	"github.com/go-kratos/kratos/v2/registry"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const namespace = "/microservices"

func main() {
	line.Peer{Register: register, Discover: discover}.Run()
}

type registration struct {
	client   *clientv3.Client
	lease    clientv3.LeaseID
	instance registry.ServiceInstance
}

func register(endpoint, service, addr string, ttl time.Duration) (line.Registration, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return nil, err
	}
	lease, err := client.Grant(context.Background(), int64(ttl.Seconds()))
	if err != nil {
		return nil, err
	}
	alive, err := client.KeepAlive(context.Background(), lease.ID)
	if err != nil {
		return nil, err
	}
	go func() {
		for range alive {
		}
	}()
	instance := registry.ServiceInstance{
		ID:        "kratos-" + addr,
		Name:      service,
		Version:   "v1",
		Endpoints: []string{"grpc://" + addr + "?isSecure=false", "http://10.9.9.9:80"},
	}
	r := &registration{client, lease.ID, instance}
	return r, r.put()
}

func (r *registration) key() string {
	return namespace + "/" + r.instance.Name + "/" + r.instance.ID
}

func (r *registration) put() error {
	value, err := json.Marshal(r.instance)
	if err != nil {
		return err
	}
	_, err = r.client.Put(context.Background(), r.key(), string(value), clientv3.WithLease(r.lease))
	return err
}

func (r *registration) Update(text string) error {
	r.instance.Version = text
	r.instance.Metadata = map[string]string{"weight": "40", "zone": "eu", "team": "core"}
	return r.put()
}

func (r *registration) Leave() error {
	_, err := r.client.Delete(context.Background(), r.key())
	return err
}

// discover reads the whole list after each event, and one bad value fails it, as in the library.
func discover(endpoint, service string, show func([]string)) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return err
	}
	prefix := namespace + "/" + service
	events := client.Watch(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	for range events {
		list, err := client.Get(context.Background(), prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		var addrs []string
		for _, kv := range list.Kvs {
			var instance registry.ServiceInstance
			if err := json.Unmarshal(kv.Value, &instance); err != nil {
				return err
			}
			if instance.Name == service {
				addrs = append(addrs, instance.Endpoints...)
			}
		}
		show(addrs)
	}
	return nil
}
