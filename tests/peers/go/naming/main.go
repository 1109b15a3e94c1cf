// Registers with the endpoint manager of clientv3, and discovers with its resolver inside a gRPC client.
package main

import (
	"context"
	"time"

	"etcd-blocking/tests/peers/go/line"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/credentials/insecure"
)

func main() {
	line.Peer{Register: register, Discover: discover}.Run()
}

type registration struct {
	client  *clientv3.Client
	manager endpoints.Manager
	key     string
	addr    string
	lease   clientv3.LeaseID
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
	manager, err := endpoints.NewManager(client, service)
	if err != nil {
		return nil, err
	}
	r := &registration{client, manager, service + "/" + addr, addr, lease.ID}
	return r, r.put(nil)
}

func (r *registration) put(metadata any) error {
	endpoint := endpoints.Endpoint{Addr: r.addr, Metadata: metadata}
	return r.manager.AddEndpoint(context.Background(), r.key, endpoint, clientv3.WithLease(r.lease))
}

func (r *registration) Update(text string) error {
	return r.put(map[string]any{"version": text, "shard": 7})
}

func (r *registration) Leave() error {
	return r.manager.DeleteEndpoint(context.Background(), r.key)
}

// discover shows the addresses that reach the balancer of a gRPC client with the target etcd:///SERVICE.
func discover(endpoint, service string, show func([]string)) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return err
	}
	etcd, err := resolver.NewBuilder(client)
	if err != nil {
		return err
	}
	balancer.Register(showing{base.NewBalancerBuilder("showing", nil, base.Config{}), show})
	connection, err := grpc.NewClient(
		"etcd:///"+service,
		grpc.WithResolvers(etcd),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"showing":{}}]}`),
	)
	if err != nil {
		return err
	}
	connection.Connect()
	select {}
}

// showing is a balancer that connects to nobody.
type showing struct {
	balancer.Builder
	show func([]string)
}

func (b showing) Build(balancer.ClientConn, balancer.BuildOptions) balancer.Balancer { return b }
func (b showing) Name() string                                                       { return "showing" }
func (b showing) ResolverError(error)                                                {}
func (b showing) UpdateSubConnState(balancer.SubConn, balancer.SubConnState)         {}
func (b showing) Close()                                                             {}
func (b showing) ExitIdle()                                                          {}

func (b showing) UpdateClientConnState(state balancer.ClientConnState) error {
	var addrs []string
	for _, endpoint := range state.ResolverState.Endpoints {
		for _, address := range endpoint.Addresses {
			addrs = append(addrs, address.Addr)
		}
	}
	b.show(addrs)
	return nil
}
