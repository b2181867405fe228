"""Rules of FinOps FOCUS 1.2 (Cost and Usage), written from the specification's own words and held against a file under its column names.

Each rule selects the rows that break it. Columns: the mandatory ones, and the conditional ones whose condition holds here
(usage is measured, unit prices are published, commitments and sub accounts exist, a pricing currency is told).
"""

from __future__ import annotations

import duckdb

from pipelines.contracts import literal

DECIMAL = [
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ListUnitPrice", "ContractedUnitPrice", "PricingQuantity",
    "ConsumedQuantity", "CommitmentDiscountQuantity",
]  # fmt: skip
TIME = [
    "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd",
]  # fmt: skip
TEXT = [
    "BillingAccountId", "BillingAccountName", "BillingCurrency", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency",
    "ConsumedUnit", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountStatus",
    "CommitmentDiscountType", "CommitmentDiscountUnit", "InvoiceIssuerName", "PricingCategory", "PricingCurrency", "PricingUnit",
    "ProviderName", "PublisherName", "RegionId", "RegionName", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter",
    "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags",
]  # fmt: skip
NEVER_NULL = [
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "BillingAccountId", "BillingCurrency", "BillingPeriodStart",
    "BillingPeriodEnd", "ChargeCategory", "ChargePeriodStart", "ChargePeriodEnd", "InvoiceIssuerName", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName", "ServiceSubcategory",
]  # fmt: skip
SUBCATEGORIES = "'Bots', 'Generative AI', 'Machine Learning', 'Natural Language Processing', 'Other (AI and Machine Learning)'"
SKU_PROPERTIES = """'CoreCount', 'DiskMaxIops', 'DiskSpace', 'DiskType', 'GpuCount', 'InstanceType', 'InstanceSeries', 'MemorySize', 'NetworkMaxIops',
    'NetworkMaxThroughput', 'OperatingSystem', 'Redundancy', 'StorageClass'"""
NO_TOKEN = "abs({cost} - {price} * cast(PricingQuantity as double)) > 1e-9 + 1e-9 * abs({cost})"

RULES = {f"{column} is never null": f"{column} is null" for column in NEVER_NULL} | {
    "ChargeCategory is one of the allowed values": "ChargeCategory not in ('Usage', 'Purchase', 'Tax', 'Credit', 'Adjustment')",
    "ChargeClass is null or Correction": "ChargeClass <> 'Correction'",
    "ChargeFrequency is one of the allowed values": "ChargeFrequency not in ('One-Time', 'Recurring', 'Usage-Based')",
    "a purchase is not Usage-Based": "ChargeCategory = 'Purchase' and ChargeFrequency = 'Usage-Based'",
    "PricingCategory is one of the allowed values": "PricingCategory not in ('Standard', 'Dynamic', 'Committed', 'Other')",
    "PricingCategory is given": "PricingCategory is null and ChargeCategory in ('Usage', 'Purchase')",
    "Committed where a commitment prices the usage, and there only": "(PricingCategory = 'Committed') <> (CommitmentDiscountStatus is not null)",
    "ServiceCategory holds its subcategory": f"ServiceCategory = 'AI and Machine Learning' and ServiceSubcategory not in ({SUBCATEGORIES})",
    "currencies are ISO 4217 codes": "not regexp_full_match(BillingCurrency, '[A-Z]{3}') or not regexp_full_match(PricingCurrency, '[A-Z]{3}')",
    "a charge period lies in its billing period": "ChargePeriodStart < BillingPeriodStart or ChargePeriodEnd > BillingPeriodEnd",
    "periods end after they start": "ChargePeriodEnd <= ChargePeriodStart or BillingPeriodEnd <= BillingPeriodStart",
    "quantity, unit and price are given for usage and purchases": """ChargeCategory in ('Usage', 'Purchase')
        and (PricingQuantity is null or PricingUnit is null or ListUnitPrice is null or ContractedUnitPrice is null or SkuId is null or SkuPriceId is null)""",
    "unit prices are not negative": "ListUnitPrice < 0 or ContractedUnitPrice < 0",
    "list cost is list price times quantity": NO_TOKEN.format(cost="ListCost", price="ListUnitPrice"),
    "contracted cost is contracted price times quantity": NO_TOKEN.format(cost="ContractedCost", price="ContractedUnitPrice"),
    "consumed quantity is positive for usage": """ChargeCategory = 'Usage' and CommitmentDiscountStatus is distinct from 'Unused'
        and (ConsumedQuantity is null or ConsumedQuantity <= 0)""",
    "consumed quantity is null elsewhere": "(ChargeCategory <> 'Usage' or CommitmentDiscountStatus = 'Unused') and ConsumedQuantity is not null",
    "a consumed unit goes with its quantity": "(ConsumedUnit is null) <> (ConsumedQuantity is null)",
    "units are capitalised plurals, with a quantity or without": "not regexp_full_match(PricingUnit, '([1-9][0-9]* )?([A-Z][A-Za-z]*s|[A-Z]{3})')",
    "purchases for later have no effective cost": "ChargeCategory = 'Purchase' and CommitmentDiscountId is not null and EffectiveCost <> 0",
    "covered usage is not billed again": "CommitmentDiscountStatus is not null and BilledCost <> 0",
    "a status only for usage under a commitment": """(CommitmentDiscountStatus is not null)
        <> (CommitmentDiscountId is not null and ChargeCategory = 'Usage')""",
    "status is Used or Unused": "CommitmentDiscountStatus not in ('Used', 'Unused')",
    "category is Spend or Usage, and goes with the id": """CommitmentDiscountCategory not in ('Spend', 'Usage')
        or (CommitmentDiscountCategory is null) <> (CommitmentDiscountId is null) or (CommitmentDiscountType is null) <> (CommitmentDiscountId is null)""",
    "name only with an id": "CommitmentDiscountId is null and CommitmentDiscountName is not null",
    "committed amounts are positive and have a unit": """(CommitmentDiscountQuantity is null) <> (CommitmentDiscountId is null)
        or CommitmentDiscountQuantity <= 0 or (CommitmentDiscountUnit is null) <> (CommitmentDiscountQuantity is null)""",
    "unused commitments cost what is left of them": "CommitmentDiscountStatus = 'Unused' and EffectiveCost <> CommitmentDiscountQuantity",
    "a sub account's name goes with its id": "(SubAccountName is null) <> (SubAccountId is null)",
    "a region's name goes with its id": "(RegionName is null) <> (RegionId is null)",
    "tags and price details are JSON objects": """not json_valid(Tags) or json_type(Tags) <> 'OBJECT'
        or (SkuPriceDetails is not null and (not json_valid(SkuPriceDetails) or json_type(SkuPriceDetails) <> 'OBJECT'))""",
    "a quantity goes with its unit": "(PricingUnit is null) <> (PricingQuantity is null)",
    "a meter goes with its SKU": "(SkuMeter is null) <> (SkuId is null)",
    "keys of price details that are not FOCUS' own are marked x_": f"""SkuPriceDetails is not null
        and exists (select 1 from (select unnest(json_keys(SkuPriceDetails)) as key) where not starts_with(key, 'x_') and key not in ({SKU_PROPERTIES}))""",
    "values of tags and price details are plain": "json_valid(Tags) and regexp_matches(Tags, ':[ ]*[{[]') or regexp_matches(coalesce(SkuPriceDetails, ''), ':[ ]*[{[]')",
    "a frequency is told": "ChargeFrequency is null",
    "a description is told": "ChargeDescription is null",
    "a pricing currency is told": "PricingCurrency is null",
    "price details go with a price": "SkuPriceId is null and SkuPriceDetails is not null",
    "text is told or null, never empty or padded": " or ".join(f"{c} <> trim({c}) or {c} = ''" for c in TEXT),
}


def breaches(path: str) -> dict[str, int]:
    """Rows that break each broken rule; columns missing, of the wrong type or wrongly named count too."""
    with duckdb.connect() as con:
        con.execute(f"create view focus as select * from read_parquet({literal(path)})")
        types = {name: type for name, type, *_ in con.execute("describe focus").fetchall()}
        found = {f"{column} is missing": 1 for column in (*DECIMAL, *TIME, *TEXT) if column not in types}
        if found:
            return found
        found |= {f"{c} is {types[c]}, no decimal": 1 for c in DECIMAL if not types[c].startswith("DECIMAL")}
        found |= {f"{c} is {types[c]}, no time": 1 for c in TIME if not types[c].startswith("TIMESTAMP")}
        found |= {f"{c} is neither of FOCUS nor marked x_": 1 for c in types if c not in (*DECIMAL, *TIME, *TEXT) and not c.startswith("x_")}
        counts = {rule: con.execute(f"select count(*) from focus where {sql}").fetchone()[0] for rule, sql in RULES.items()}
        prices = "select count(*) from (select SkuPriceId from focus group by SkuPriceId having count(distinct SkuId) > 1)"
        counts["a price belongs to one SKU"] = con.execute(prices).fetchone()[0]
        details = "select count(*) from (select SkuPriceId from focus group by SkuPriceId having count(distinct SkuPriceDetails) > 1)"
        counts["price details are those of the price, whoever used it"] = con.execute(details).fetchone()[0]
        return found | {rule: count for rule, count in counts.items() if count}
