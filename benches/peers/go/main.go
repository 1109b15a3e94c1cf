// The peer clientv3: does one work and prints one line of JSON.
//
// usage: peer ENDPOINT WORK KEY=VALUE...
//
// clientv3 is used as its documentation recommends: one client, shared by the goroutines, and a context with a
// deadline for each call.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const soon = 120 * time.Second

type params map[string]string

func (p params) number(key string) int {
	n, err := strconv.Atoi(p[key])
	check(err)
	return n
}

func (p params) seconds(key string) time.Duration {
	n, err := strconv.ParseFloat(p[key], 64)
	check(err)
	return time.Duration(n * float64(time.Second))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		fail(err)
	}
}

func connect(endpoint string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second})
	check(err)
	return client
}

// Tells the runner that watches are open, leases are kept alive or clients are idle.
func ready() { fmt.Println("ready") }

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: peer ENDPOINT WORK KEY=VALUE..."))
	}
	endpoint, work, p := os.Args[1], os.Args[2], params{}
	for _, arg := range os.Args[3:] {
		key, value, _ := strings.Cut(arg, "=")
		p[key] = value
	}
	var result *report
	switch work {
	case "connect":
		result = connects(endpoint, p)
	case "idle":
		result = idle(endpoint, p)
	default:
		client := connect(endpoint)
		defer client.Close()
		result = do(client, work, p)
	}
	line, err := json.Marshal(result)
	check(err)
	fmt.Println(string(line))
}

func do(client *clientv3.Client, work string, p params) *report {
	switch work {
	case "get", "put", "txn", "range", "register":
		threads := p.number("threads")
		return closedLoop(threads, p, caller(client, work, p.number("size")))
	case "pipeline":
		// What a Go program does to have many requests in flight: a goroutine for each.
		return closedLoop(p.number("flight"), p, caller(client, p["verb"], p.number("size")))
	case "pages":
		return pages(client, p)
	case "watch":
		return watch(client, p)
	case "replay":
		return replay(client, p)
	case "leases":
		return leases(client, p)
	case "list":
		return list(client, p)
	}
	return &report{None: "no counterpart"}
}

// Makes the call of one thread.
func caller(client *clientv3.Client, work string, size int) func(int) func() {
	value := string(bytes.Repeat([]byte("v"), size))
	return func(n int) func() {
		count := 0
		return func() {
			ctx, cancel := context.WithTimeout(context.Background(), soon)
			defer cancel()
			switch work {
			case "get":
				found, err := client.Get(ctx, fmt.Sprintf("peers/v/%d", size))
				check(err)
				if len(found.Kvs) != 1 || len(found.Kvs[0].Value) != size {
					fail(fmt.Errorf("another value"))
				}
			case "put":
				_, err := client.Put(ctx, fmt.Sprintf("peers/w/%d", n), value)
				check(err)
			case "txn":
				key := fmt.Sprintf("peers/t/%d", n)
				exists := clientv3.Compare(clientv3.CreateRevision(key), ">", 0)
				done, err := client.Txn(ctx).If(exists).Then(clientv3.OpPut(key, value)).Commit()
				check(err)
				if !done.Succeeded {
					fail(fmt.Errorf("the comparison failed"))
				}
			case "range":
				found, err := client.Get(ctx, fmt.Sprintf("peers/r%d/", size), clientv3.WithPrefix())
				check(err)
				if len(found.Kvs) != size {
					fail(fmt.Errorf("another number of keys"))
				}
			default:
				lease, err := client.Grant(ctx, 60)
				check(err)
				_, err = client.Put(ctx, fmt.Sprintf("peers/i/%d/%d", n, count), value, clientv3.WithLease(lease.ID))
				check(err)
				count++
			}
		}
	}
}

func connects(endpoint string, p params) *report {
	var latencies []time.Duration
	m := start()
	for range p.number("count") {
		begun := time.Now()
		client := connect(endpoint)
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		_, err := client.Get(ctx, "peers/v/256")
		check(err)
		latencies = append(latencies, time.Since(begun))
		cancel()
		check(client.Close())
	}
	return m.withLatencies(latencies)
}

func idle(endpoint string, p params) *report {
	var clients []*clientv3.Client
	for range p.number("clients") {
		client := connect(endpoint)
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		_, err := client.Get(ctx, "peers/v/256")
		check(err)
		cancel()
		clients = append(clients, client)
	}
	ready()
	_, err := io.ReadAll(os.Stdin)
	check(err)
	for _, client := range clients {
		check(client.Close())
	}
	return &report{}
}
