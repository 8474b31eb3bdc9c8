"""A service that has been on NATS all along: it answers quotes with a NATS library, and knows nothing of HTTP."""

import asyncio
import json
import os

import nats

PRICES = {"coffee": 4.50, "tea": 3.20, "mug": 12.00}


async def main():
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"), max_reconnect_attempts=-1)

    async def quote(message):
        payload, headers = answer(json.loads(message.data))
        await connection.publish(message.reply, payload, headers=headers)

    await connection.subscribe("pricing.quote", queue="pricing", cb=quote)
    await connection.flush()
    print("pricing: ready", flush=True)
    await asyncio.Event().wait()


def answer(wanted):
    price = PRICES.get(wanted["sku"])
    if price is None:
        # NATS's own way to say no; over HTTP it becomes the status.
        return b"", {"Nats-Service-Error-Code": "404", "Nats-Service-Error": f"no {wanted['sku']} here"}
    total = round(price * wanted["quantity"], 2)
    return json.dumps({"price": total}).encode(), {"Content-Type": "application/json"}


if __name__ == "__main__":
    asyncio.run(main())
