// Holds Go's locks and leads Go's elections, as told by its arguments.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

func must(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func main() {
	endpoint, verb, name := os.Args[1], os.Args[2], os.Args[3]
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 20 * time.Second})
	must(err)
	session, err := concurrency.NewSession(client, concurrency.WithTTL(30))
	must(err)
	ctx := context.Background()
	switch verb {
	case "hold":
		mutex := concurrency.NewMutex(session, name)
		must(mutex.Lock(ctx))
		fmt.Println("held", mutex.Key(), mutex.Header().Revision)
		io.Copy(io.Discard, os.Stdin)
		must(mutex.Unlock(ctx))
	case "count":
		rounds, err := strconv.Atoi(os.Args[4])
		must(err)
		mutex := concurrency.NewMutex(session, name)
		for i := 0; i < rounds; i++ {
			must(mutex.Lock(ctx))
			got, err := client.Get(ctx, "counter")
			must(err)
			n, err := strconv.Atoi(string(got.Kvs[0].Value))
			must(err)
			same := clientv3.Compare(clientv3.ModRevision("counter"), "=", got.Kvs[0].ModRevision)
			txn, err := client.Txn(ctx).If(mutex.IsOwner(), same).Then(clientv3.OpPut("counter", strconv.Itoa(n+1))).Commit()
			must(err)
			if !txn.Succeeded {
				must(fmt.Errorf("two held the lock"))
			}
			must(mutex.Unlock(ctx))
		}
	case "read", "write":
		lock := recipe.NewRWMutex(session, name)
		if verb == "read" {
			must(lock.RLock())
		} else {
			must(lock.Lock())
		}
		fmt.Println("held")
		io.Copy(io.Discard, os.Stdin)
		must(lock.Unlock())
	case "lead":
		election := concurrency.NewElection(session, name)
		must(election.Campaign(ctx, os.Args[4]))
		fmt.Println("leads", election.Key(), election.Rev())
		io.Copy(io.Discard, os.Stdin)
		must(election.Resign(ctx))
	case "observe":
		leaders := concurrency.NewElection(session, name).Observe(ctx)
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		for leader := range leaders {
			fmt.Println("sees", string(leader.Kvs[0].Value))
		}
	}
	must(session.Close())
	fmt.Println("done")
}
