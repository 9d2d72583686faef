// A NestJS application that sends requests to Forebay through `ClientKafka`, and prints as one line of JSON what it got.
//
//   node client.js BROKERS REQUESTS GROUP
//
// REQUESTS is the topic of requests. NestJS reads the replies from the topic `REQUESTS.reply`.

'use strict';

require('reflect-metadata');
const { NestFactory } = require('@nestjs/core');
const { ClientsModule, Transport } = require('@nestjs/microservices');
const { firstValueFrom, lastValueFrom, timeout } = require('rxjs');

const [brokers, requests, group] = process.argv.slice(2);
const PATIENCE_MS = 30_000;

class ForebayDeserializer {
  deserialize(reply) {
    const id = reply.headers.kafka_correlationId;
    const failed = 'forebay-error-code' in reply.headers;
    const outcome = failed ? { err: reply.value.error } : { response: reply.value };
    return { id, isDisposed: true, ...outcome };
  }
}

function client(name, groupId, deserializer) {
  return {
    name,
    transport: Transport.KAFKA,
    options: {
      client: { brokers: brokers.split(',') },
      consumer: { groupId, heartbeatInterval: 300 },
      // The group is new, so it has no offsets: with the default, its members would skip replies that are written before
      // they have looked up the ends of their partitions.
      subscribe: { fromBeginning: true },
      deserializer,
    },
  };
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits until each member of a group has partitions of its own, and returns the one that each asks replies for.
async function replyPartitions(members) {
  for (const started = Date.now(); Date.now() - started < PATIENCE_MS; await sleep(50)) {
    const partitions = members.map((member) => member.getConsumerAssignments()[`${requests}.reply`]);
    if (!partitions.includes(undefined) && new Set(partitions).size === members.length) {
      return partitions;
    }
  }
  throw new Error('the group has not assigned partitions to each member');
}

const send = (member, data) => member.send(requests, data).pipe(timeout(PATIENCE_MS));
const result = (member, data) => lastValueFrom(send(member, data));
const failure = (member, data) => result(member, data).then(
  (value) => { throw new Error(`not a failure: ${JSON.stringify(value)}`); },
  (error) => error,
);

// Sends 100 requests at once, and ten one after the other. Returns pairs of number and answer.
async function answers(member, first) {
  const ask = async (n) => [n, await result(member, { n })];
  const found = await Promise.all(Array.from({ length: 100 }, (_, n) => ask(first + n)));
  for (let n = first + 100; n < first + 110; n++) {
    found.push(await ask(n));
  }
  return found;
}

// Returns the first value of the observable of a request, and tells if the observable completes within half a second.
async function observed(member, data) {
  let completes = false;
  let subscription;
  const value = await new Promise((resolve, reject) => {
    subscription = send(member, data).subscribe({ next: resolve, error: reject, complete: () => { completes = true; } });
  });
  await sleep(500);
  subscription.unsubscribe();
  return { value, completes };
}

async function main() {
  // Two instances of a service, and a client that has NestJS's own deserializer.
  const app = await NestFactory.createApplicationContext({
    module: class ClientModule {},
    imports: [ClientsModule.register([
      client('first', group, new ForebayDeserializer()),
      client('second', group, new ForebayDeserializer()),
      client('plain', `${group}-plain`),
    ])],
  }, { logger: ['error'], abortOnError: false });
  const [first, second, plain] = ['first', 'second', 'plain'].map((name) => app.get(name));
  for (const member of [first, second, plain]) {
    member.subscribeToResponseOf(requests);
  }
  await Promise.all([first, second, plain].map((member) => member.connect()));
  const partitions = await replyPartitions([first, second]);
  await replyPartitions([plain]);

  const [ofFirst, ofSecond] = await Promise.all([answers(first, 0), answers(second, 1000)]);
  const withTimeout = (ms) => ({ value: { n: 7 }, headers: { 'forebay-timeout-ms': ms } });
  console.log(JSON.stringify({
    partitions,
    answers: [ofFirst, ofSecond],
    invalid: await failure(first, 'no JSON'),
    late: await failure(first, withTimeout('0')),
    inTime: await result(first, withTimeout('60000')),
    plain: {
      first: await firstValueFrom(send(plain, { n: 7 })),
      observed: await observed(plain, { n: 8 }),
      invalid: await firstValueFrom(send(plain, 'no JSON')),
    },
  }));
  await app.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
